"""The page in headless Chromium, on the samples and the built-in model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.e2e.product import SAMPLES

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
ANSWER_MS = 20_000
MARGIN = 16
CARDS = "#results .cards > .card"
ANSWER = "document.querySelector('#results .answer')?.tagName"


@pytest.fixture
def requests() -> list[str]:
    """URLs that the page of this test asked for."""
    return []


@pytest.fixture
def page(browser: Browser, url: str, requests: list[str]) -> Iterator[Page]:
    """A fresh visitor's page; fails if anything breaks in it or if it asks another host for anything."""
    context = browser.new_context(viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(ANSWER_MS)
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))

    def note(request: Request) -> None:
        requests.append(request.url)

    page.on("request", note)
    page.goto(url)
    expect(page.locator("#text input")).to_be_visible()
    yield page
    context.close()
    assert not broken
    hosts = {urlsplit(one).netloc for one in requests if not one.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(url).netloc}


@contextmanager
def answered(page: Page) -> Iterator[None]:
    """Waits, after the block has asked for something, until its answer has taken the place of the one before."""
    before = page.evaluate(ANSWER)  # the name of the element that holds an answer is another for each
    yield
    page.wait_for_function(f"before => {ANSWER} && {ANSWER} !== before", arg=before)
    expect(page.locator("#status .busy")).to_have_count(0)


def search(page: Page, text: str) -> None:
    """Types a query, presses Enter and waits for its results."""
    with answered(page):
        page.locator("#text input").fill(text)
        page.locator("#text input").press("Enter")
    expect(page.locator(CARDS).first).to_be_visible()


def upload(page: Page, picture: Path) -> None:
    """Chooses a picture and waits for its results."""
    with answered(page):
        page.locator("#picture input[type=file]").set_input_files(picture)
    expect(page.locator(CARDS).first).to_be_visible()


def names(page: Page) -> list[str]:
    """The shown pictures' names, best first."""
    return [str(card.get_attribute("data-name")) for card in page.locator(CARDS).all()]


def files(page: Page) -> list[str]:
    """The shown pictures' file names, best first."""
    return [str(card.get_attribute("data-file")) for card in page.locator(CARDS).all()]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("an elephant", r"elephant"),
        ("a red apple", r"apple"),
        ("something with wheels", r"truck|car|bus|bike|cycle|wagon|tractor|train"),
    ],
)
def test_words_find_the_right_pictures(page: Page, query: str, expected: str) -> None:
    search(page, query)
    assert any(re.search(expected, name, re.IGNORECASE) for name in names(page)[:5]), names(page)
    scores = [float(str(card.get_attribute("data-score"))) for card in page.locator(CARDS).all()]
    assert scores == sorted(scores, reverse=True)
    image = page.locator(f"{CARDS} .card-open img").first
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("image => image.naturalWidth") > 0
    assert image.get_attribute("alt")


def test_number_of_results(page: Page) -> None:
    page.locator("#limit input[type=number]").fill("7")
    page.locator("#limit input[type=number]").press("Enter")
    search(page, "a bird")
    expect(page.locator(CARDS)).to_have_count(7)


def test_an_uploaded_picture_finds_itself(page: Page) -> None:
    picture = SAMPLES / "images" / "animals" / "abalone.webp"
    upload(page, picture)
    assert files(page)[0] == picture.name
    assert float(str(page.locator(CARDS).first.get_attribute("data-score"))) > 0.99


def test_words_and_picture_together_have_a_weight(page: Page) -> None:
    expect(page.locator("#weight")).to_be_hidden()
    upload(page, SAMPLES / "images" / "animals" / "abalone.webp")
    by_picture = files(page)
    search(page, "a red car")
    expect(page.locator("#weight")).to_be_visible()
    assert files(page) != by_picture


def test_more_like_this(page: Page) -> None:
    search(page, "an elephant")
    first = files(page)[0]
    with answered(page):
        page.locator(f"{CARDS} .card-more").first.click()
    expect(page.locator("#similar .similar-chip")).to_be_visible()
    assert first not in files(page)
    assert len(files(page)) > 1


def test_an_example_runs_at_once_and_clear_takes_it_back(page: Page) -> None:
    with answered(page):
        page.locator("#examples .example").first.click()
    assert names(page)
    page.locator("#clear").click()
    expect(page.locator(CARDS)).to_have_count(0)
    expect(page.locator("#text input")).to_have_value("")


def test_a_file_that_is_no_picture_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    fake = tmp_path / "letter.jpg"
    fake.write_text("Dear reader, I am no picture.")
    page.locator("#picture input[type=file]").set_input_files(fake)
    message = page.locator("#results .message-error")
    expect(message).to_be_visible()
    expect(message).to_contain_text("picture")
    expect(message).not_to_contain_text("Traceback")


def test_a_result_opens_large_and_escape_closes_it(page: Page) -> None:
    search(page, "a flower")
    page.locator(f"{CARDS} .card-open").first.click()
    viewer = page.locator("dialog#viewer")
    expect(viewer).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()


def test_visitors_side_by_side_get_their_own_results(browser: Browser, url: str) -> None:
    queries = {"an elephant": "elephant", "a red apple": "apple", "a guitar": "guitar"}
    contexts = [browser.new_context(viewport=DESKTOP) for _ in queries]  # type: ignore[arg-type]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.set_default_timeout(ANSWER_MS)
        page.goto(url)
        expect(page.locator("#text input")).to_be_visible()
    for page, query in zip(pages, queries, strict=True):
        page.locator("#text input").fill(query)
    for page in pages:
        page.locator("#text input").press("Enter")
    for page, expected in zip(pages, queries.values(), strict=True):
        expect(page.locator(CARDS).first).to_be_visible()
        assert any(expected in name.lower() for name in names(page)[:5]), names(page)
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("name", "viewport", "shown", "scheme"),
    [
        ("search", DESKTOP, 10, "light"),
        ("search-dark", DESKTOP, 10, "dark"),
        ("search-phone", PHONE, 4, "light"),
    ],
)
def test_screenshots(
    browser: Browser,
    url: str,
    screenshots: Path,
    name: str,
    viewport: dict[str, int],
    shown: int,
    scheme: str,
) -> None:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(ANSWER_MS)
    page.goto(url)
    expect(page.locator("#text input")).to_be_visible()
    search(page, "a bird with colourful feathers")  # the first answer of a browser is a slow one
    search(page, "an animal with stripes")
    last = page.locator(CARDS).nth(shown - 1).bounding_box()
    assert last is not None
    page.set_viewport_size({**viewport, "height": round(last["y"] + last["height"]) + MARGIN})
    page.wait_for_function(
        "() => [...document.querySelectorAll('#results img')]"
        ".filter(i => i.getBoundingClientRect().top < innerHeight).every(i => i.complete)"
    )
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    screenshots.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=screenshots / f"{name}.png")
    context.close()
