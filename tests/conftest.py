"""Marks every test by its folder, and lets none skip itself in CI."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

FAULT_SEED = "IMAGE_SEARCH_FAULT_SEED"
FOLDERS = ("unit", "integration", "e2e", "faults", "cluster", "corpus")


def pytest_configure() -> None:
    """One seed for all processes of a test run, before they start."""
    os.environ.setdefault(FAULT_SEED, str(random.SystemRandom().randrange(2**32)))


def pytest_report_header() -> str:
    """How to replay the faults of this run."""
    return f"{FAULT_SEED}={os.environ[FAULT_SEED]}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`tests/unit/...` is marked `unit`, and so on."""
    for item in items:
        for folder in item.path.relative_to(Path(__file__).parent).parts[:-1]:
            if folder in FOLDERS:
                item.add_marker(folder)


def _fail_skipped(report: Any) -> Any:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which no test may do in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Any:
    """A test that skips itself fails in CI."""
    return _fail_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Any:
    """So does a module that skips itself."""
    return _fail_skipped((yield))
