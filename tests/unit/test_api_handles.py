"""Calls between deployments: one that is lost with its replica is made again, and that does no harm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from search_core.errors import NotFoundError, OverloadedError
from serve_app.handles import ATTEMPTS, Remote, method
from serve_app.library import Library
from tests.fixtures.api_app import running_api


class Lossy:
    """A deployment's handle: the first answers of one method are lost with their replicas, after the work was done."""

    def __init__(self, body: Any, lost: int, of: str) -> None:
        self.body, self.lost, self.of = body, lost, of
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return _Method(self, name, getattr(self.body, name))


class _Method:
    def __init__(self, handle: Lossy, name: str, call: Callable[..., Awaitable[Any]]) -> None:
        self._handle, self._name, self._call = handle, name, call

    async def remote(self, *args: Any) -> Any:
        handle = self._handle
        handle.calls.append(self._name)
        answer = await self._call(*args)
        if handle.lost and self._name == handle.of:
            handle.lost -= 1
            raise RayActorError
        return answer


class Echo:
    async def say(self, word: str) -> str:
        return word


@pytest.mark.parametrize("lost", range(ATTEMPTS))
async def test_a_call_lost_with_its_replica_is_made_again(lost: int) -> None:
    handle = Lossy(Echo(), lost, "say")
    assert await method(handle, "say")("hello") == "hello"  # type: ignore[arg-type]
    assert handle.calls == ["say"] * (lost + 1)


async def test_after_some_attempts_it_is_told_to_come_back() -> None:
    handle = Lossy(Echo(), ATTEMPTS, "say")
    with pytest.raises(OverloadedError, match="restarting") as caught:
        await method(handle, "say")("hello")  # type: ignore[arg-type]
    assert type(caught.value) is OverloadedError  # a caller of the caller does not begin again
    assert handle.calls == ["say"] * ATTEMPTS


async def test_a_picture_whose_removal_loses_its_answer_is_deleted_all_the_same(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        id, kept = api.ids["red"][:2]
        points = Lossy(api.retrieval, 1, "remove")
        library = Library(api.settings, api.encoders.image, Remote(points), api.pins)  # type: ignore[arg-type]
        await library.delete(id)
        assert points.calls == ["point", "remove", "remove"]
        with pytest.raises(NotFoundError):
            await library.delete(id)
        assert (await library.point(kept)).id == kept
