"""The pages say what the code does: generated ones are up to date, named commands and files exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from cli.main import cli
from tools.settings_table import TARGET, settings_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_page_is_what_the_settings_are() -> None:
    assert TARGET.read_text(encoding="utf-8") == settings_table(), "run `make docs`"


@pytest.mark.parametrize("line", sorted(set(re.findall(r"image-search ([a-z]+ [^\n`#]*|[a-z]+)", README))))
def test_commands_in_the_readme_are_accepted(line: str) -> None:
    words = line.split()
    command = cli.commands[words[0]]
    if isinstance(command, click.Group):
        command = command.commands[words[1]]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if re.match(r"--?[a-z]", word)} <= known


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_links_and_pictures_of_the_readme_are_in_the_tree() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_file_tree_of_the_readme_is_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {
        line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")
    }
    assert set(re.findall(r"(?:^|\s{2,})([a-z_]+)/\s", README, re.MULTILINE)) == folders
