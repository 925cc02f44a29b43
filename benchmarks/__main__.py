"""`python -m benchmarks`: indexes the samples, serves them on a free port, and measures text search over HTTP."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
STOP_S = 60


def main() -> None:
    """Runs the measurements; their JSON goes to stdout."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = str(Path(sys.executable).with_name("image-search"))
    with tempfile.TemporaryDirectory() as folder:
        store = ["--store", folder]
        subprocess.run([command, "index", str(SAMPLES), *store], check=True, stdout=sys.stderr)
        server = subprocess.Popen(
            [command, "serve", "--port", str(port), *store], stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            if not server.stdout.readline():
                raise SystemExit("the server did not start")
            url = f"http://127.0.0.1:{port}"
            subprocess.run([sys.executable, "-m", "benchmarks.http_latency", url, *sys.argv[1:]], check=True)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(STOP_S)


if __name__ == "__main__":
    main()
