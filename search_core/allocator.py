"""The C library's allocator, told to keep the large blocks that a model frees and asks for again."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h


def keep_freed_memory() -> None:
    """Makes glibc reuse freed blocks instead of returning them to the system; elsewhere does nothing.

    By default each activation of a convolution is a fresh mapping, whose pages fault one by one: batches of 64
    pictures ran at a third of the pace they have without.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(MMAP_THRESHOLD, 2**30)
