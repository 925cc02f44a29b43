"""Checks of a new collection by the questions that users would ask it: canaries, and a file of captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batch_index.gate import Judge, Verdict
from cli.evaluating import evaluate, names_of
from cli.local_search import LocalSearch, local_search
from search_core.errors import UsageError
from search_core.evaluation import Pair, numbered_lines, read_pairs
from search_core.query import MAX_LIMIT, MAX_TEXT_CHARS, SearchRequest
from search_core.settings import Settings
from search_core.store import Collection, Store

WITHIN = 10


@dataclass(frozen=True)
class Canary:
    """A query, and images of which one at least is to be among the first `within` results."""

    text: str
    images: tuple[str, ...]
    within: int


def judge(settings: Settings) -> Judge | None:
    """The checks that the settings ask for; None if they ask for none.

    Raises:
        UsageError: a file of theirs is not as it should be.
    """
    publish = settings.publish
    canaries = read_canaries(publish.canaries) if publish.canaries else []
    pairs = read_pairs(publish.eval_file) if publish.eval_file else []
    if not canaries and not pairs:
        return None

    async def run(store: Store, collection: Collection) -> Sequence[Verdict]:
        search = await local_search(store, settings, collection)
        verdicts = [await _sings(search, canary) for canary in canaries]
        if pairs:
            verdicts.append(await _recall(search, store, settings, pairs))
        return verdicts

    return run


def read_canaries(path: Path) -> list[Canary]:
    """Canaries from JSON lines `{"text": ..., "images": [...], "within": 10}`; images by URI or file name.

    Raises:
        UsageError: the file cannot be read, is empty, or a line is not of that form or no query that may be asked.
    """
    return [_canary(path, number, line) for number, line in numbered_lines(path)]


def _canary(path: Path, number: int, line: str) -> Canary:
    wrong = UsageError(f'{path}, line {number}: needs {{"text": ..., "images": [...], "within": {WITHIN}}}')
    try:
        value: Any = json.loads(line)
        text, images, within = value["text"], value["images"], value.get("within", WITHIN)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise wrong from None
    named = isinstance(images, list) and images and all(isinstance(image, str) for image in images)
    if not isinstance(text, str) or not text.strip() or not named or type(within) is not int or within < 1:
        raise wrong
    if len(text) > MAX_TEXT_CHARS:
        raise UsageError(f"{path}, line {number}: the text is longer than {MAX_TEXT_CHARS} characters")
    if within > MAX_LIMIT:
        raise UsageError(f"{path}, line {number}: within is more than {MAX_LIMIT}")
    return Canary(text, tuple(images), within)


async def _sings(search: LocalSearch, canary: Canary) -> Verdict:
    request = SearchRequest.model_validate({"terms": [{"text": canary.text}], "limit": canary.within})
    hits = (await search.service.search(request)).hits
    wanted = set(canary.images)
    rank = next((n for n, hit in enumerate(hits, 1) if not wanted.isdisjoint(names_of(hit.uri))), None)
    place = f"found at {rank}" if rank else f"none of its {len(wanted)} images is found"
    return Verdict("canary", rank is not None, f"{canary.text!r}, {place} among the first {canary.within}")


async def _recall(search: LocalSearch, store: Store, settings: Settings, pairs: Sequence[Pair]) -> Verdict:
    found = (await evaluate(search, store, pairs, "named"))["text_to_image"]["recall_at_10"]
    least = settings.publish.min_eval_recall
    return Verdict(
        "eval", found >= least, f"text-to-image recall at 10 is {found:.3f}, {least:g} is asked for"
    )
