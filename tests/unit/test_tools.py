"""The scripts of the Makefile: what they refuse, find, fetch and promise."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tools import packed, preflight, programs

ROOT = Path(preflight.__file__).parents[1]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the two files that name the packages."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def program(folder: Path, name: str = "program") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def package(folder: Path, member: str, content: bytes) -> Path:
    path = folder / "package.tgz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 14, 2)])
def test_a_supported_python_passes(version):
    assert preflight.python_problem(version) is None


@pytest.mark.parametrize(("version", "says"), [((3, 10, 13), "3.11 or newer"), ((3, 15, 0), "3.11 to 3.14")])
def test_an_unsupported_python_is_named_with_the_mend(version, says):
    problem = preflight.python_problem(version)
    assert says in problem
    assert "PYTHON=" in problem


def test_this_python_makes_environments():
    assert preflight.venv_problem() is None


def test_disk_is_measured_where_the_folder_will_be(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    assert preflight.disk_problem(folder, 0) is None
    assert "1000000.0 GB of disk" in preflight.disk_problem(folder, 1e6)


def test_a_taken_port_is_named_with_another():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        assert f"port {port} is taken: choose another, such as make demo PORT=8001" in preflight.port_problem(
            port
        )
    assert preflight.port_problem(port) is None


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", ""])
def test_what_is_not_a_port_is_refused(port):
    assert "is not a port number" in preflight.port_problem(port)


def test_a_stamp_counts_until_a_pin_changes(project):
    assert not preflight.is_installed(project, ".dev")
    stamp = project / ".venv" / ".dev"
    stamp.parent.mkdir()
    stamp.touch()
    assert preflight.is_installed(project, ".dev")
    later = time.time() + 10
    os.utime(project / "constraints.txt", (later, later))
    assert not preflight.is_installed(project, ".dev")


def test_the_promised_size_follows_what_is_there(project):
    assert preflight.package_sizes(project, "linux") == preflight.WITH_CUDA
    assert preflight.package_sizes(project, "darwin") == preflight.WITHOUT_CUDA
    packages = project / ".venv" / "lib" / "python3.11" / "site-packages"
    (packages / "torch-0.0.1.dist-info").mkdir(parents=True)
    assert preflight.package_sizes(project, "linux") == preflight.WITH_CUDA
    pin = next(
        line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")
    )
    (packages / f"{pin.replace('==', '-')}.dist-info").mkdir()
    assert preflight.package_sizes(project, "linux") == preflight.WITHOUT_TORCH


def test_downloads_are_announced_only_while_something_is_missing(project, monkeypatch):
    monkeypatch.setattr(preflight, "SPARE_GB", -preflight.WITH_CUDA.disk)
    problems, downloads = preflight.check(project, "demo", None)
    assert problems == []
    assert len(downloads) == 1
    assert downloads[0].startswith("Python packages ")
    (project / ".venv").mkdir()
    (project / ".venv" / ".runtime").touch()
    assert preflight.check(project, "demo", None) == ([], [])


def test_make_test_announces_the_programs_it_will_fetch(project, tmp_path, monkeypatch):
    bin_folder = tmp_path / "bin"
    for name in ("npm", "chromium"):
        program(bin_folder, name)
    monkeypatch.setenv("PATH", str(bin_folder))
    for variable in ("QDRANT_BIN", "KUBECTL_BIN", "HADOLINT_BIN", "MOTO_SERVER_BIN", "CHROMIUM_BIN"):
        monkeypatch.delenv(variable, raising=False)
    (project / ".venv").mkdir()
    (project / ".venv" / ".dev").touch()
    _, downloads = preflight.check(project, "test", None)
    assert downloads == [
        "Qdrant server 30 MB",
        "kubectl 18 MB",
        "hadolint 12 MB",
        "schema of compose files 1 MB",
        "moto's S3 server 31 MB",
    ]


def test_a_refusal_is_one_line_without_a_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "tools.preflight", "demo", "--port", "nonsense"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "PORT=nonsense" in line]
    assert "Traceback" not in done.stderr


def test_preflight_is_readable_by_an_old_python():
    """Nothing newer than Python 3.7 in its syntax."""
    compile_it = "import ast, sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 7))"
    subprocess.run([sys.executable, "-c", compile_it, preflight.__file__], check=True)


@pytest.mark.parametrize(
    ("variable", "find"),
    [
        ("QDRANT_BIN", programs.find_qdrant),
        ("KUBECTL_BIN", packed.KUBECTL.find),
        ("HADOLINT_BIN", packed.HADOLINT.find),
        ("MOTO_SERVER_BIN", programs.find_moto),
        ("CHROMIUM_BIN", programs.find_chromium),
    ],
)
def test_a_program_of_your_own_wins(variable, find, tmp_path, monkeypatch):
    program(packed.QDRANT.cached(tmp_path).parent, "qdrant")
    own = program(tmp_path / "own")
    monkeypatch.setenv(variable, str(own))
    assert find(tmp_path) == own
    monkeypatch.setenv(variable, str(tmp_path / "gone"))
    with pytest.raises(packed.ProgramError, match=f"{variable}=.*/gone is not a program"):
        find(tmp_path)


def test_the_fetched_server_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("QDRANT_BIN", raising=False)
    assert programs.find_qdrant(tmp_path) is None
    cached = program(packed.QDRANT.cached(tmp_path).parent, "qdrant")
    assert programs.find_qdrant(tmp_path) == cached


def zipped(folder: Path, member: str, content: bytes) -> Path:
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, content)
    return path


@pytest.mark.parametrize(("one", "pack"), [(packed.QDRANT, package), (packed.KUBECTL, zipped)])
def test_a_program_with_the_right_hash_is_unpacked(one, pack, tmp_path):
    archive = pack(tmp_path, one.member, b"program")
    target = tmp_path / "target"
    dataclasses.replace(one, sha256=hashlib.sha256(b"program").hexdigest()).unpack(archive, target)
    assert target.read_bytes() == b"program"
    assert os.access(target, os.X_OK)


@pytest.mark.parametrize(("one", "pack"), [(packed.QDRANT, package), (packed.KUBECTL, zipped)])
def test_a_program_with_another_hash_is_refused_and_deleted(one, pack, tmp_path):
    archive = pack(tmp_path, one.member, b"not the program")
    with pytest.raises(packed.ProgramError, match="refused"):
        one.unpack(archive, tmp_path / "target")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize(("one", "pack"), [(packed.QDRANT, package), (packed.KUBECTL, zipped)])
def test_a_package_without_the_program_is_refused(one, pack, tmp_path):
    archive = pack(tmp_path, "other", b"program")
    with pytest.raises(packed.ProgramError, match=f"has no file {one.member}: refused"):
        one.unpack(archive, tmp_path / "target")


@pytest.mark.parametrize("has_pip", [True, False])
def test_a_program_is_fetched_by_name_and_version(has_pip, tmp_path, monkeypatch):
    one = dataclasses.replace(packed.KUBECTL, sha256=hashlib.sha256(b"program").hexdigest())
    commands: list[list[str]] = []

    def run(command: list[str]) -> None:
        commands.append(command)
        if "download" in command:
            zipped(Path(command[command.index("--dest") + 1]), one.member, b"program")

    monkeypatch.setattr(packed, "run", run)
    monkeypatch.setattr(packed, "find_spec", lambda name: object() if has_pip else None)
    one.fetch(tmp_path)
    assert one.cached(tmp_path).read_bytes() == b"program"
    *venv, download = commands
    assert [command[1:3] for command in venv] == ([] if has_pip else [["-m", "venv"]])
    assert (download[0] == sys.executable) is has_pip
    assert download[-1] == one.package
    assert {"--no-deps", "--only-binary"} <= set(download)
    assert [path.name for path in one.cached(tmp_path).parent.iterdir()] == [one.file]


@pytest.mark.parametrize("one", packed.PACKED)
def test_a_cached_file_that_was_altered_is_deleted(one, tmp_path, capsys):
    cached = program(one.cached(tmp_path).parent, one.file)
    one.discard_altered(tmp_path)
    assert not cached.exists()
    assert "deleted" in capsys.readouterr().out


def wheel(folder: Path, release: str) -> Path:
    """A moto whose server says what release it is."""
    about = f"moto-{release}.dist-info"
    path = folder / f"moto-{release}-py3-none-any.whl"
    files = {
        "moto.py": f"def main(): print({release!r})",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: moto\nVersion: {release}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nmoto_server = moto:main\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.mark.long
def test_the_s3_server_is_installed_once_for_its_pins(tmp_path, monkeypatch):
    monkeypatch.delenv("MOTO_SERVER_BIN", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(programs, "MOTO_PINS", tmp_path / "moto.txt")
    programs.MOTO_PINS.write_text("moto==1.0")
    with pytest.raises(packed.ProgramError, match=r"MOTO_SERVER_BIN.*moto==1\.0") as caught:
        programs.fetch_moto(tmp_path)
    assert "\n" not in str(caught.value)
    assert programs.find_moto(tmp_path) is None
    wheel(tmp_path, "1.0")
    programs.fetch_moto(tmp_path)
    server = programs.find_moto(tmp_path)
    assert packed.run([str(server)]) == "1.0\n"
    programs.MOTO_PINS.write_text("moto==1.1")
    assert programs.find_moto(tmp_path) is None


def test_what_cannot_be_fetched_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "venv_problem", lambda: "this Python lacks venv: install it")
    for obstacle in (packed.QDRANT.obstacle(), programs.moto_obstacle(), programs.chromium_obstacle()):
        assert obstacle is not None
        assert "\n" not in obstacle
        assert "_BIN" in obstacle


def test_a_failing_command_becomes_its_last_line():
    script = "import sys; print('first'); print('the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(packed.ProgramError, match=r"failed: the reason$"):
        packed.run([sys.executable, "-c", script])


def test_training_fetches_wordnet_or_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(programs, "WORDNET", tmp_path / "data.noun")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.main("model") == 1
    assert capsys.readouterr().err == (
        "make model: WordNet is missing: install it (sudo apt-get install wordnet-base)\n"
    )
    (tmp_path / "data.noun").write_text("")
    assert programs.missing("model") == []
    assert programs.main("model") == 0
