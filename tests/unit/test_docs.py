"""The pages say what the code does: generated ones are up to date, named commands and files exist."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from cli.main import DEBUG_VARIABLE, cli
from search_core.errors import ImageError
from search_core.settings import Settings
from tools.settings_table import TARGET, settings_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
OPERATIONS, CLUSTER = PAGES["operations.md"], PAGES["cluster.md"]
ALL = "".join([README, *PAGES.values()])
COMMAND = r"image-search ([a-z]+ [^\n`#>]*|[a-z]+)"
CODE = ("search_core", "batch_index", "serve_app", "cli")


def test_settings_page_is_what_the_settings_are() -> None:
    assert TARGET.read_text(encoding="utf-8") == settings_table(), "run `make docs`"


@pytest.mark.parametrize("line", sorted(set(re.findall(COMMAND, ALL))))
def test_commands_on_the_pages_are_accepted(line: str) -> None:
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


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_of_a_page_are_in_the_tree(page: str) -> None:
    docs = ROOT / "docs"
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[page]):
        file, _, place = target.partition("#")
        path = docs / (file or page)
        assert path.exists(), target
        headings = re.findall(r"^##+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if place else []
        assert not place or place in {_anchor(heading) for heading in headings}, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def test_files_and_variables_on_the_cluster_page_exist() -> None:
    for name in re.findall(r"cluster/[a-z./-]+[a-z]", CLUSTER):
        assert (ROOT / name).exists() or name == "cluster/.env", name
    for variable in re.findall(r"IMAGE_SEARCH_[A-Z_]+[A-Z]", CLUSTER):
        assert f"`{variable}`" in settings_table(), variable


def test_settings_on_the_pages_exist() -> None:
    groups = "|".join(Settings.model_fields)
    named = re.findall(rf"`((?:{groups})(?:\.[a-z_0-9]+)+)", "".join(PAGES.values()))
    assert len(named) > 10
    for name in named:
        value: object = Settings()
        for part in name.split("."):
            assert hasattr(value, part), name
            value = getattr(value, part)
    for block in re.findall(r"```yaml\n(.*?)```", OPERATIONS + PAGES["monitoring.md"], re.DOTALL):
        Settings.model_validate(yaml.safe_load(block))
    for variable in re.findall(r"IMAGE_SEARCH_[A-Z_]+", OPERATIONS):
        assert variable == DEBUG_VARIABLE or f"`{variable}`" in settings_table(), variable


def test_reasons_on_the_operations_page_are_those_of_the_code() -> None:
    (listed,) = re.findall(r"reports: ([a-z_0-9, \n]+)\.", ImageError.__doc__ or "")
    rows = OPERATIONS.partition("## Quarantine")[2].partition("## ")[0]
    cells = [line.split("|")[1] for line in rows.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([a-z_0-9]+)`", " ".join(cells))) == set(re.findall(r"[a-z_0-9]+", listed))


def test_failures_on_the_operations_page_are_lines_of_the_code() -> None:
    """What is between the `…` of a line stands in the program, word for word."""
    texts = {
        node.value
        for folder in CODE
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    table = OPERATIONS.partition("## What failures look like")[2]
    lines = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(lines) > 20
    for line in lines:
        for part in line.split("…"):
            assert any(part.strip() in text for text in texts), (line, part)


def test_file_tree_of_the_readme_is_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {
        line.split("/")[0] for line in tracked.splitlines() if "/" in line and not line.startswith(".")
    }
    assert set(re.findall(r"(?:^|\s{2,})([a-z_]+)/\s", README, re.MULTILINE)) == folders
