"""Checks a machine before anything is installed on it, and says how much is about to be downloaded.

`python -m tools.preflight {setup,demo,test} [--port N]` from the project's root: silent when all is well and
nothing is to be installed, else one line for what will happen or for what is missing (exit 1).
Written for old Pythons too, so that they get an answer rather than a syntax error.
"""

import argparse
import errno
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWEST = (3, 14)  # the newest that every pinned package is released for
STAMPS = {"demo": ".runtime", "setup": ".dev", "test": ".dev"}  # what the Makefile's targets leave in .venv


class Sizes(NamedTuple):
    """What installing the Python packages takes, in GB; measured with the pins of constraints.txt."""

    download: float
    disk: float


WITH_CUDA = Sizes(download=3.4, disk=7.0)  # torch brings CUDA along on Linux
WITHOUT_CUDA = Sizes(download=0.6, disk=2.0)
WITHOUT_TORCH = Sizes(download=0.5, disk=1.5)
SPARE_GB = 1.5  # Chromium, moto, stores and logs


def python_problem(version: Tuple[int, ...]) -> Optional[str]:
    """Why this Python will not do."""
    found = f"this is Python {version[0]}.{version[1]}"
    if version[:2] < OLDEST:
        return f"{found}, 3.11 or newer is needed: name one, such as make PYTHON=python3.12"
    if version[:2] > NEWEST:
        return f"{found}, newer than the pinned packages: use 3.11 to 3.14, such as make PYTHON=python3.13"
    return None


def venv_problem() -> Optional[str]:
    """Whether environments can be made: Debian packages that part of Python separately."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        return f"{sys.executable} lacks {error.name}: install it (apt-get install python3-venv)"
    return None


def free_gb(folder: Path) -> float:
    """Free disk under a folder, which need not exist yet."""
    existing = next(place for place in [folder, *folder.parents] if place.is_dir())
    return shutil.disk_usage(str(existing)).free / 1e9


def disk_problem(folder: Path, needed_gb: float) -> Optional[str]:
    """Whether the environment fits."""
    free = free_gb(folder)
    if free < needed_gb:
        return f"{folder} needs about {needed_gb:.1f} GB of disk and {free:.1f} GB are free: make room and try again"
    return None


def port_problem(port: str) -> Optional[str]:
    """Binds the port as a server does, and lets go of it."""
    if not (port.isdigit() and 0 < int(port) < 65536):
        return f"PORT={port} is not a port number: choose one, such as make demo PORT=8001"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", int(port)))
            server.listen(1)
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            return f"port {port} {why}: choose another, such as make demo PORT=8001"
    return None


def loopback_problem() -> Optional[str]:
    """Whether the tests' own servers can listen on free ports of this machine."""
    with socket.socket() as server:
        try:
            server.bind(("127.0.0.1", 0))
            server.listen(1)
        except OSError as error:
            return f"no port of 127.0.0.1 can be listened on ({error.strerror}): the tests start servers of their own"
    return None


def is_installed(root: Path, stamp: str) -> bool:
    """Whether make has nothing to install: its stamp is as new as the files that name the packages."""
    try:
        made = (root / ".venv" / stamp).stat().st_mtime
    except OSError:
        return False
    return all((root / name).stat().st_mtime <= made for name in ("pyproject.toml", "constraints.txt"))


def has_torch(root: Path) -> bool:
    """Whether the environment has the pinned torch, by far the largest package."""
    pins = (root / "constraints.txt").read_text(encoding="utf-8").split()
    release = next(pin[len("torch==") :] for pin in pins if pin.startswith("torch=="))
    return any((root / ".venv").glob(f"lib/python*/site-packages/torch-{release}.dist-info"))


def package_sizes(root: Path, system: str) -> Sizes:
    """What installing takes here and now, at most."""
    if has_torch(root):
        return WITHOUT_TORCH
    return WITH_CUDA if system == "linux" else WITHOUT_CUDA


def download_note(target: str, items: List[str], sizes: Sizes) -> str:
    """The line that says up front what is going to be downloaded."""
    note = f"make {target} downloads, where it is not cached: {', '.join(items)}"
    wanted = 2 * sizes.download
    if free_gb(Path(tempfile.gettempdir())) < wanted + sizes.disk:
        note += f" (pip wants about {wanted:.0f} GB more for a while: PIP_NO_CACHE_DIR=1 halves it, TMPDIR moves it)"
    return note


def check(root: Path, target: str, port: Optional[str]) -> Tuple[List[str], List[str]]:
    """Returns (what stops the target, what it downloads)."""
    problems: List[Optional[str]] = [python_problem(sys.version_info[:3])]
    downloads: List[str] = []
    if problems[0]:
        return [problems[0]], []
    if port is not None:
        problems.append(port_problem(port))
    elif target == "test":
        problems.append(loopback_problem())
    if not is_installed(root, STAMPS[target]):
        sizes = package_sizes(root, sys.platform)
        problems += [venv_problem(), disk_problem(root / ".venv", sizes.disk + SPARE_GB)]
        downloads.append(f"Python packages {sizes.download} GB ({sizes.disk} GB in .venv)")
    if target == "test":
        from tools import packed, programs

        try:
            missing = programs.missing("test", root)
        except packed.ProgramError as error:
            return [*filter(None, problems), str(error)], []
        problems += [program.obstacle() for program in missing]
        downloads += [f"{program.name} {program.download_mb} MB" for program in missing]
    return [problem for problem in problems if problem], downloads


def main(arguments: Optional[List[str]] = None) -> int:
    """Prints one line for each problem, or one for the downloads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(STAMPS))
    parser.add_argument("--port")
    options = parser.parse_args(arguments)
    problems, downloads = check(ROOT, options.target, options.port)
    for problem in problems:
        print(f"make {options.target}: {problem}", file=sys.stderr)
    if downloads and not problems:
        print(download_note(options.target, downloads, package_sizes(ROOT, sys.platform)), flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
