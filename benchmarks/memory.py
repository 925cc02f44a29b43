"""Memory of a command and its descendants, as `/proc` tells of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_S = 1.0
NAME_CHARS = 60


@dataclass(frozen=True)
class Memory:
    """What a process has in memory, in bytes: `private` anonymous pages, and `shared` ones (Ray's object store)."""

    name: str
    private: int
    shared: int


def family_memory(pid: int) -> Iterator[Memory]:
    """The memory of a process and of each of its descendants; those that end meanwhile are left out."""
    try:
        mine = psutil.Process(pid)
        family = [mine, *mine.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        pairs = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        name = words.replace(b"\0", b" ").decode(errors="replace")[:NAME_CHARS].strip()
        yield Memory(name, _bytes(pairs, "RssAnon"), _bytes(pairs, "RssShmem"))


def _bytes(status: dict[str, str], name: str) -> int:
    return int(status.get(name, "0 kB").split()[0]) * 1024


@dataclass(frozen=True)
class Sample:
    """Memory of all processes at one moment: the sum of what is private, and Ray's object store, in bytes."""

    seconds: float
    private: int
    shared: int


class MemoryWatch:
    """Samples the memory of a process and its descendants each second, in a thread, while the context lasts."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self.largest: dict[str, int] = {}
        """Most private memory of a process, by its name."""
        self._pid = pid
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            family = list(family_memory(self._pid))
            if not family:
                return
            private, shared = sum(one.private for one in family), max(one.shared for one in family)
            self.samples.append(Sample(time.monotonic() - self._began, private, shared))
            for one in family:
                self.largest[one.name] = max(self.largest.get(one.name, 0), one.private)
