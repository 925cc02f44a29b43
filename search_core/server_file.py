"""`STORE/server.json`: how other commands find the server that holds a store."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from search_core.edge_files import read_json, write_json
from search_core.errors import StoreError

FILE_NAME = "server.json"


@dataclass(frozen=True)
class RunningServer:
    """A server process. `started` is the kernel's start time of the process, so that a reused pid is noticed."""

    pid: int
    started: str
    url: str
    ray_address: str

    def write(self, store: Path) -> None:
        """Announces this server."""
        write_json(store / FILE_NAME, asdict(self))

    @staticmethod
    def remove(store: Path) -> None:
        """Withdraws the announcement, if it is this process's."""
        server = find_server(store)
        if server and server.pid == os.getpid():
            (store / FILE_NAME).unlink(missing_ok=True)


def find_server(store: Path) -> RunningServer | None:
    """The server that holds `store`, or None; the note of a process that has ended is ignored."""
    try:
        server = RunningServer(**read_json(store / FILE_NAME))
    except (StoreError, TypeError):
        return None
    return server if process_start(server.pid) == server.started else None


def process_start(pid: int) -> str | None:
    """When a process started, as an opaque text; None when it is not running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _portable_start(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _portable_start(pid: int) -> str | None:
    """Where there is no /proc: only whether the process lives."""
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "running"
