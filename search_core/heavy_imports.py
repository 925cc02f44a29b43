"""Imports that take seconds, made lighter.

open_clip comes without torch's compiler, which nothing here uses and whose import takes a process 3 to 4 s:
torchvision (`ops.roi_align`) and timm (`models.naflexvit`) load all of `torch._dynamo` while they are imported: the
one for a function that it may call later, the other for decorators that keep functions out of a compilation.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

DYNAMO = "torch._dynamo"
UTILS = "torch._dynamo.utils"


def import_open_clip() -> Any:
    """The package. Where torch's compiler was not loaded before, it is not loaded now, but when it is asked for."""
    with collector_paused(), _compiler_later():
        import open_clip

        return open_clip


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection inside: while modules load, hardly anything is garbage, and looking is a seventh of the work."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _compiler_later() -> Iterator[None]:
    """Imports inside find a stand-in for `torch._dynamo`; it is gone afterwards."""
    import torch  # noqa: F401  the parent of the stand-in

    if DYNAMO in sys.modules:
        yield
        return
    stand_in, utils = ModuleType(DYNAMO), ModuleType(UTILS)
    stand_in.__path__ = []
    vars(stand_in).update(disable=_as_it_is, utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    sys.modules.update({DYNAMO: stand_in, UTILS: utils})
    try:
        yield
    finally:
        del sys.modules[DYNAMO], sys.modules[UTILS]
        vars(sys.modules["torch"]).pop("_dynamo", None)


def _as_it_is(fn: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Callable[..., Any]:
    return fn if fn is not None else _as_it_is


def _is_compile_supported(device_type: str) -> bool:
    from torch._dynamo.utils import is_compile_supported

    return bool(is_compile_supported(device_type))
