"""Marks every test by its folder, and lets none skip itself in CI."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 12e9
FAULT_SEED = "IMAGE_SEARCH_FAULT_SEED"
FOLDERS = ("unit", "integration", "e2e", "faults", "cluster", "corpus")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for all processes of a test run, before they start; and its folders in memory, where there is enough.

    Stores write each batch through to the disk, which takes most of the time on a slow one.
    """
    os.environ.setdefault(FAULT_SEED, str(random.SystemRandom().randrange(2**32)))
    if config.option.basetemp is None and MEMORY.is_dir() and _room() > ENOUGH_BYTES:
        config.option.basetemp = tempfile.mkdtemp(prefix="image-search-tests-", dir=MEMORY)
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


def _room() -> float:
    """Bytes that files in memory may take."""
    return min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)


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
