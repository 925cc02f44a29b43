"""Where a run writes: everything is released at its end, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import batch_index.runtime
import search_core.owner
from batch_index.target import Target
from search_core.errors import StoreError
from search_core.settings import Settings, StoreSettings


class Owned:
    """A store in an actor that has come to harm."""

    def __init__(self, released: list[str]) -> None:
        self._released = released

    async def close(self) -> None:
        self._released.append("store")


async def test_an_owner_that_cannot_be_stopped_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []

    @contextmanager
    def runtime(*_: Any) -> Iterator[str]:
        try:
            yield ""
        finally:
            released.append("Ray")

    def stop(_: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(batch_index.runtime, "ray_runtime", runtime)
    monkeypatch.setattr(search_core.owner, "start_owner", lambda *_: Owned(released))
    monkeypatch.setattr(search_core.owner, "stop_owner", stop)
    target = Target(Settings(store=StoreSettings(path=tmp_path)), within_server=False)
    await target.prepare_to_write()
    with pytest.raises(StoreError, match="the disk is full"):
        await target.close()
    assert released == ["store", "Ray"]
