"""`STORE/server.json`: how other commands find the server that holds a store.

A server of vectors in a Qdrant server holds nothing here: its note has a name of its own, `STORE/server-<hash>.json`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from search_core.edge_files import read_json, write_json
from search_core.errors import StoreError
from search_core.settings import StoreSettings

FILE_NAME = "server.json"
HASH_CHARS = 12


@dataclass(frozen=True)
class RunningServer:
    """A server process. `started` is the kernel's start time of the process, so that a reused pid is noticed."""

    pid: int
    started: str
    url: str
    ray_address: str

    def write(self, store: StoreSettings) -> None:
        """Announces this server."""
        write_json(note_path(store), asdict(self))

    @staticmethod
    def remove(store: StoreSettings) -> None:
        """Withdraws the announcement, if it is this process's."""
        server = find_server(store)
        if server and server.pid == os.getpid():
            note_path(store).unlink(missing_ok=True)


def note_path(store: StoreSettings) -> Path:
    """Where the server of this store announces itself; the same for each way to write the URLs of its nodes."""
    if store.qdrant_url is None:
        return store.path / FILE_NAME
    nodes = ",".join(sorted({_node(url) for url in store.qdrant_url.split(",")}))
    digest = hashlib.sha256(nodes.encode()).hexdigest()[:HASH_CHARS]
    return store.path / f"server-{digest}.json"


def find_server(store: StoreSettings) -> RunningServer | None:
    """The server of this very store, or None; the note of a process that has ended is ignored."""
    try:
        server = RunningServer(**read_json(note_path(store)))
    except (StoreError, TypeError):
        return None
    return server if process_start(server.pid) == server.started else None


def _node(url: str) -> str:
    """A node of Qdrant without scheme, credentials and what is only for the client."""
    parts = urlsplit(url.strip())
    return parts.netloc.rpartition("@")[2].lower() + parts.path.rstrip("/")


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
