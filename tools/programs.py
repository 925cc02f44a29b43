"""What the tests and the training need beside Python packages: finds it, and fetches what is missing.

`python -m tools.programs test|model` from the project's root. `QDRANT_BIN`, `KUBECTL_BIN`, `HADOLINT_BIN`,
`MOTO_SERVER_BIN` and `CHROMIUM_BIN` name programs of your own.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.packed import PACKED, QDRANT, ProgramError, named_by, run
from tools.preflight import venv_problem

ROOT = Path(__file__).resolve().parent.parent

MOTO_PINS = Path(__file__).with_name("moto.txt")
WORDNET = Path("/usr/share/wordnet/data.noun")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Program:
    """Something a target of the Makefile needs: how to find it, and how it is fetched where it is missing."""

    name: str
    download_mb: int
    find: Callable[[Path], Path | None]
    obstacle: Callable[[], str | None]  # why it cannot be fetched here, in one line
    fetch: Callable[[Path], None]


def find_qdrant(root: Path = ROOT) -> Path | None:
    """The Qdrant server: `QDRANT_BIN`, or the one fetched before."""
    return QDRANT.find(root)


def cached_moto(root: Path) -> Path:
    """The environment that the S3 server is installed into: where it really is, which its scripts remember."""
    return (root / ".cache" / "tools" / "moto").resolve()


def find_moto(root: Path = ROOT) -> Path | None:
    """The S3 server of moto: `MOTO_SERVER_BIN`, or the one installed before, if to its end and with today's pins."""
    own = named_by("MOTO_SERVER_BIN")
    if own:
        return own
    server, stamp = (cached_moto(root) / name for name in ("bin/moto_server", MOTO_PINS.name))
    installed = server.is_file() and stamp.is_file() and stamp.read_bytes() == MOTO_PINS.read_bytes()
    return server if installed else None


def moto_obstacle() -> str | None:
    """It is installed into an environment."""
    problem = venv_problem()
    return f"{problem}, or MOTO_SERVER_BIN must name a moto_server" if problem else None


def fetch_moto(root: Path) -> None:
    """Installs it with pip. The stamp comes last: what was broken off is made anew."""
    folder = cached_moto(root)
    run([sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(folder / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check"]
    try:
        run([*pip, "install", "--quiet", "--requirement", str(MOTO_PINS)])
    except ProgramError as error:
        raise ProgramError(
            f"moto's S3 server cannot be installed, and MOTO_SERVER_BIN names none of your own: {error}"
        ) from None
    shutil.copyfile(MOTO_PINS, folder / MOTO_PINS.name)


def find_chromium(root: Path = ROOT) -> Path | None:
    """The browser: `CHROMIUM_BIN`, or one on the path."""
    on_path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    return named_by("CHROMIUM_BIN") or (Path(on_path) if on_path else None)


def chromium_obstacle() -> str | None:
    """Only root on a Debian can install it."""
    if shutil.which("apt-get") is None:
        return "Chromium is missing: install it, or name it in CHROMIUM_BIN"
    if os.geteuid() != 0:
        return "Chromium is missing: install it (sudo apt-get install chromium), or name it in CHROMIUM_BIN"
    return None


def find_wordnet(root: Path = ROOT) -> Path | None:
    """WordNet's database files, where Debian's package puts them."""
    return WORDNET if WORDNET.is_file() else None


def wordnet_obstacle() -> str | None:
    """Only root on a Debian can install it."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "WordNet is missing: install it (sudo apt-get install wordnet-base)"
    return None


def install(package: str) -> Callable[[Path], None]:
    """Installs a package of Debian's."""

    def fetch(root: Path) -> None:
        run(["apt-get", "update", "-q"])
        run(["apt-get", "install", "-y", "-q", package], DEBIAN_FRONTEND="noninteractive")

    return fetch


PROGRAMS = {
    "unit": tuple(
        Program(one.name, one.download_mb, one.find, one.obstacle, one.fetch) for one in PACKED[1:]
    ),
    "test": (
        *(Program(one.name, one.download_mb, one.find, one.obstacle, one.fetch) for one in PACKED),
        Program("moto's S3 server", 31, find_moto, moto_obstacle, fetch_moto),
        Program("Chromium", 140, find_chromium, chromium_obstacle, install("chromium")),
    ),
    "model": (Program("WordNet", 8, find_wordnet, wordnet_obstacle, install("wordnet-base")),),
}


def missing(target: str = "test", root: Path = ROOT) -> list[Program]:
    """What a target needs that is not there yet."""
    return [program for program in PROGRAMS[target] if program.find(root) is None]


def provide(target: str = "test", root: Path = ROOT) -> None:
    """Fetches what is missing, one line each."""
    for packed in PACKED:
        packed.discard_altered(root)
    for program in missing(target, root):
        obstacle = program.obstacle()
        if obstacle:
            raise ProgramError(obstacle)
        print(f"fetching {program.name} ({program.download_mb} MB)", flush=True)
        program.fetch(root)
        if program.find(root) is None:
            raise ProgramError(f"{program.name} was installed and yet cannot be found")


def main(target: str = "test") -> int:
    """Provides what a target needs, or says in one line why it cannot."""
    try:
        provide(target)
    except ProgramError as error:
        print(f"make {target}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
