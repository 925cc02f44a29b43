"""The product as its users have it: commands in processes of their own, and nothing left when they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fixtures.ports import free_port
from tests.fixtures.processes import assert_none_left

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
COMMAND = str(Path(sys.executable).with_name("image-search"))
SETTINGS = ("IMAGE_SEARCH_", "RAY_AUTH_MODE")
"""Of the tests' own environment, which users do not have: commands join a server's Ray by its token."""
MARK = "IMAGE_SEARCH_TEST_RUN"
"""Set in the environment of every process of a test, so that what it left behind can be told from others."""


class Product:
    """Commands on one store. `mark` tells the processes of this instance from all others."""

    def __init__(self, store: Path, model: str = "builtin") -> None:
        self.store = store
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)},
            "IMAGE_SEARCH_MODEL__NAME": model,
            MARK: self.mark,
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Starts a command on the store, in a process group of its own."""
        return subprocess.Popen(
            [COMMAND, *words, "--store", str(self.store)],
            env=self._environment,
            cwd=self.store.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        """Runs a command to its end; returns its standard output, or its errors if it should fail."""
        process = self.start(*words)
        out, errors = process.communicate(timeout=280)
        assert process.returncode == code, f"{words} ended with {process.returncode}: {errors}"
        return errors if code else out

    def json(self, *words: str) -> Any:
        """Runs a command with `--json`; returns its document."""
        return json.loads(self.run(*words, "--json"))

    @contextmanager
    def serving(self, command: str = "serve", says: str = "") -> Iterator[str]:
        """A server on a free port, from its ready line until SIGINT has stopped it; gives its URL.

        `command` may be `demo`, which `says` what it has indexed.
        """
        port = free_port()
        server = self.start(command, "--port", str(port))
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if "http://" not in line:
                _, errors = server.communicate(timeout=60)
                raise AssertionError(f"the server did not start: {line}{errors}")
            yield f"http://127.0.0.1:{port}"
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=60)
            assert server.returncode == 0, errors
            assert says in errors
        finally:
            if server.poll() is None:
                server.kill()
                server.communicate()

    def assert_nothing_left(self) -> None:
        """Waits for the last process of this instance to end."""
        assert_none_left(f"{MARK}={self.mark}")
