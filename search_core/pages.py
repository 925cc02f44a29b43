"""Pages of a ranking in which equal scores are ordered by id.

Qdrant breaks ties as it happens, and for each page anew: copies of one picture would show twice or never.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from search_core.points import Hit

MAX_READ = 1 << 16
"""Ties are followed no further than this rank."""

Search = Callable[[int, int], Awaitable[list[Hit]]]
"""Takes a limit and an offset, gives hits by falling score."""


async def ordered_page(search: Search, limit: int, offset: int) -> list[Hit]:
    """The hits of ranks `offset` to `offset + limit`, best first, equal scores by id.

    One search, with a neighbour on either side, where the borders of the page cut through no tie; else the
    ranking is read from its top until the tie ends.
    """
    end = offset + limit
    first = max(0, offset - 1)
    hits = await search(end + 1 - first, first)
    page = hits[offset - first : end - first]
    cut_before = offset > 0 and bool(page) and hits[0].score == page[0].score
    cut_after = len(hits) > end - first and hits[-1].score == page[-1].score
    if not (cut_before or cut_after):
        return _ordered(page)
    size = 2 * end
    ranking = await search(size, 0)
    while len(ranking) == size < MAX_READ and ranking[-1].score == ranking[end - 1].score:
        size *= 2
        ranking = await search(size, 0)
    return _ordered(ranking)[offset:end]


def _ordered(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))
