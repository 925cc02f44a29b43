"""One index of the samples and one server, the demo's, for all end-to-end tests, and a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.product import SAMPLES, Product
from tools.programs import find_chromium

BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SAMPLE_PICTURES = 460
SCREENSHOTS_VARIABLE = "IMAGE_SEARCH_SCREENSHOTS"


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    """A store with the samples, made by the built-in model."""
    product = Product(tmp_path_factory.mktemp("product") / "store")
    report = product.json("index", str(SAMPLES))
    assert report["quarantined"] == 0
    assert report["added"] == report["seen"] == SAMPLE_PICTURES
    return product


@pytest.fixture(scope="session")
def url(product: Product) -> Iterator[str]:
    """The demo on the samples, which it finds indexed; when it has stopped, nothing of it is left."""
    with product.serving("demo", says=f"{SAMPLE_PICTURES} pictures, 0 new.") as url:
        yield url
    product.assert_nothing_left()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, no longer than its module: Playwright keeps an event loop running in this thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(find_chromium()), args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: docs/images when `make docs` asks for it, else a folder of the test run."""
    named = os.environ.get(SCREENSHOTS_VARIABLE)
    return Path(named) if named else tmp_path_factory.mktemp("screenshots")
