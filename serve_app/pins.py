"""Which model and which collection a request is answered by: both are chosen once, at its start.

The default pin follows the alias. To a collection of the same model it moves at once; before it moves to one of
another model, the encoders load that model, while the old pin goes on answering.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol, TypeGuard, TypeVar

from search_core.errors import CollectionGoneError, NotFoundError, OverloadedError, SearchError, StoreError
from search_core.model import ModelSpec
from serve_app.messages import Pin

REMEMBER_S = 1.0
FOLLOW_S = 2.0
"""How often an idle replica looks where the alias points, so that its next request need not find out."""
RETRY_S = 10.0
"""How long after a failure the encoders are asked again to load the alias's model."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Lookup(Protocol):
    """The part of `Retrieval` that knows collections."""

    async def pin(self, name: str | None, fresh: bool = False) -> Pin:
        """The collection of this alias or full name, the published one for None, and its model."""


class Pinning(Protocol):
    """What answers requests from pins."""

    async def pin(self, name: str | None = None) -> Pin:
        """The pin of this name, or the default one."""

    async def answer(self, name: str | None, call: Callable[[Pin], Awaitable[T]]) -> T:
        """What `call` makes of the pin of this name, or of the default one."""


@dataclass
class Switch:
    """A move to a collection of another model, while the encoders load it. `error` is of the last attempt."""

    to: Pin
    attempt: asyncio.Task[None] | None = None
    error: str | None = None
    retry_at: float = 0.0


@dataclass(frozen=True)
class _Remembered:
    pin: Pin
    until: float


class Pins:
    """The pins of one API replica; what the store says of a name is remembered for `remember_s`."""

    def __init__(
        self,
        lookup: Lookup,
        prepare: Callable[[ModelSpec], Awaitable[object]],
        *,
        remember_s: float = REMEMBER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lookup = lookup
        self._prepare = prepare
        self._remember_s = remember_s
        self._clock = clock
        self._current: Pin | None = None
        self._look_at = 0.0
        self._following: asyncio.Task[None] | None = None
        self._named: dict[str, _Remembered] = {}
        self.switch: Switch | None = None

    async def pin(self, name: str | None = None) -> Pin:
        """The pin for a new request: the default one, or that of a collection or alias that it names.

        Raises:
            NothingPublishedError: there is no index yet. NotFoundError: there is no collection of that name.
        """
        if self._is_other(name):
            return await self._pin_of(name)
        if self._following is None:  # there is no event loop before the first request, whose id ends with it
            self._following = asyncio.create_task(self._follow(), context=Context())
        if self._current is not None and self._clock() >= self._look_at:
            await self._look()
        return self._current or self._move(await self._lookup.pin(None))

    async def answer(self, name: str | None, call: Callable[[Pin], Awaitable[T]]) -> T:
        """What `call` makes of a pin; once more, with a fresh one, if its collection was dropped meanwhile."""
        pin = await self.pin(name)
        try:
            return await call(pin)
        except CollectionGoneError:
            return await call(await self._pin_again(name, pin))

    async def _pin_again(self, name: str | None, gone: Pin) -> Pin:
        if self._is_other(name):
            self._named.pop(name, None)
            return await self._pin_of(name, fresh=True)
        if self._current is not None and self._current != gone:  # another request has noticed it before
            return self._current
        return self._move(await self._lookup.pin(None, True))

    def _is_other(self, name: str | None) -> TypeGuard[str]:
        """Whether a request names something else than what is served anyway."""
        return name is not None and (self._current is None or name != self._current.alias)

    async def _pin_of(self, name: str, *, fresh: bool = False) -> Pin:
        known = self._named.get(name)
        if known is not None and self._clock() < known.until:
            return known.pin
        self._named.pop(name, None)
        pin = await self._lookup.pin(name, fresh)
        self._named[name] = _Remembered(pin, self._clock() + self._remember_s)
        return pin

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            if self._current is not None:
                with contextlib.suppress(NotFoundError):  # the next request will say so
                    await self._look()

    async def _look(self) -> None:
        """Follows the alias. While the store does not answer, the old pin stays: the request will say so itself."""
        self._look_at = self._clock() + self._remember_s  # others need not wait for this look
        try:
            found = await self._lookup.pin(None)
        except NotFoundError:
            self._current = self.switch = None
            raise
        except (StoreError, OverloadedError) as error:
            logger.warning("the published collection cannot be looked up: %s", error)
            return
        current = self._current
        if current is None or current.spec.fingerprint == found.spec.fingerprint:
            self._move(found)
        elif self.switch is None or self.switch.to != found:
            self.switch = Switch(found)
            self._attempt(self.switch)
        elif self.switch.attempt is None and self._clock() >= self.switch.retry_at:
            self._attempt(self.switch)

    def _move(self, pin: Pin) -> Pin:
        if self._current is not None and self._current != pin:
            logger.info("serving collection %s, model %s", pin.collection, pin.spec.name)
        self._current = pin
        self._look_at = self._clock() + self._remember_s
        self.switch = None
        return pin

    def _attempt(self, switch: Switch) -> None:
        logger.info("loading model %s of collection %s", switch.to.spec.name, switch.to.collection)
        switch.attempt = asyncio.create_task(self._prepare_for(switch))

    async def _prepare_for(self, switch: Switch) -> None:
        try:
            await self._prepare(switch.to.spec)
        except Exception as error:  # whatever it is, the old pin serves on and it is tried again
            switch.error = str(error) if isinstance(error, SearchError) else type(error).__name__
            switch.retry_at = self._clock() + RETRY_S
            logger.warning(
                "model %s of collection %s cannot be loaded, the old one serves on",
                switch.to.spec.name,
                switch.to.collection,
                exc_info=True,
            )
        else:
            if self.switch is switch:
                self._move(switch.to)
        finally:
            switch.attempt = None
