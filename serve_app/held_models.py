"""The models of one encoder replica: loaded when first needed, each in a thread of its own, few at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from search_core.encoder import Encoder, load_encoder
from search_core.errors import ModelError, SearchError
from search_core.model import ModelSpec, present_model
from search_core.points import Vectors
from search_core.preprocess import Pixels
from search_core.settings import ModelSettings
from serve_app.messages import Encoded, EncoderStatus

MOST_HELD = 2
"""The one that is served and the one that is to come, or that somebody asks for by its collection's name."""

T = TypeVar("T")
logger = logging.getLogger(__name__)


class ModelThread:
    """An encoder and the one thread that may use it. `warm_up` is called once, so that no user waits for it."""

    def __init__(
        self, spec: ModelSpec, settings: ModelSettings, warm_up: Callable[[Encoder], object]
    ) -> None:
        self.spec = spec
        self._warm_up = warm_up
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        try:
            self._encoder = self._thread.submit(load_encoder, spec, settings).result()
            self._thread.submit(warm_up, self._encoder).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self.device, self.precision = self._encoder.device, self._encoder.precision

    async def texts(self, texts: Sequence[str]) -> list[Encoded]:
        """The vectors of a batch of texts."""
        return await self._run(self._encoder.encode_texts, texts)

    async def pixels(self, batch: Sequence[Pixels]) -> list[Encoded]:
        """The vectors of a batch of uint8 [height, width, 3] in the model's size."""
        return await self._run(lambda: self._encoder.encode_pixels(np.stack(batch)))

    async def check(self) -> None:
        """Returns once the model has encoded something, after what its thread has to do before; raises what it raised."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._warm_up, self._encoder)

    def close(self) -> None:
        """Ends the thread; the weights go with the last reference to this."""
        self._thread.shutdown(wait=False)

    async def _run(self, call: Any, *args: Any) -> list[Encoded]:
        vectors: Vectors = await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
        return [Encoded(vector, self.spec.fingerprint) for vector in vectors]


@dataclass
class _Held:
    """A loaded model, how many calls use it now, and whether it is unused."""

    model: ModelThread
    calls: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)


class HeldModels:
    """Models by fingerprint. At most `most`: for one more, the one used longest ago goes, after its last call.

    `load` is called in a thread, so that calls of the models that are held go on meanwhile.
    """

    def __init__(
        self, first: ModelSpec, load: Callable[[ModelSpec], ModelThread], *, most: int = MOST_HELD
    ) -> None:
        """Loads the first model at once, so that a replica that cannot work does not start.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._load = load
        self._most = most
        self._held: OrderedDict[str, _Held] = OrderedDict()  # the one used longest ago comes first
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._held[first.fingerprint] = _Held(load(first))

    @asynccontextmanager
    async def using(self, spec: ModelSpec) -> AsyncIterator[ModelThread]:
        """The model of a collection's stamp, for one call; loads it if it is not held.

        Raises:
            ModelError: it cannot be loaded. ModelMismatchError: the model of that name is another one now.
        """
        key = spec.fingerprint
        while (held := self._held.get(key)) is None:
            if key not in self._loading:
                self._loading[key] = asyncio.create_task(self._bring(spec))
                self._loading[key].add_done_callback(asyncio.Task.exception)  # even if all callers have gone
            await asyncio.shield(self._loading[key])  # others wait for it too
        self._held.move_to_end(key)
        held.calls += 1
        held.unused.clear()
        try:
            yield held.model
        finally:
            held.calls -= 1
            if not held.calls:
                held.unused.set()

    async def check(self) -> None:
        """Has the model that was used last encode something: a device that hangs or has failed does not."""
        await next(reversed(self._held.values())).model.check()

    def status(self) -> EncoderStatus:
        """What is held."""
        last = next(reversed(self._held.values())).model
        return EncoderStatus(tuple(self._held), last.device, last.precision)

    async def _bring(self, spec: ModelSpec) -> None:
        try:
            present = await asyncio.to_thread(present_model, spec)
            async with self._turn:  # one at a time: a load takes memory and cores
                while len(self._held) >= self._most:
                    await self._let_go()
                model = await asyncio.to_thread(self._load, present)
                self._held[spec.fingerprint] = _Held(model)
                logger.info("loaded model %s (%s)", spec.name, spec.fingerprint)
        except SearchError:
            raise
        except Exception as error:
            logger.exception("model %s cannot be loaded", spec.name)
            raise ModelError(f"model {spec.name!r} cannot be loaded: {type(error).__name__}") from None
        finally:
            del self._loading[spec.fingerprint]

    async def _let_go(self) -> None:
        """Drops the model used longest ago: at once for new calls, which queue for its return, else after its last."""
        key, held = self._held.popitem(last=False)
        if held.calls:
            await held.unused.wait()
        held.model.close()
        logger.info("dropped model %s (%s)", held.model.spec.name, key)


@dataclass(frozen=True)
class Item(Generic[T]):
    """An input of a batch, and the model that is to encode it."""

    model: ModelThread
    input: T


async def encode_by_model(
    items: Sequence[Item[T]], encode: Callable[[ModelThread, list[T]], Awaitable[list[Encoded]]]
) -> list[Encoded | Exception]:
    """The vectors of a batch, model by model and in its order. An error is that of one model's items only."""
    rows: dict[int, list[int]] = {}
    for row, item in enumerate(items):
        rows.setdefault(id(item.model), []).append(row)
    groups = list(rows.values())
    answers = await asyncio.gather(
        *(encode(items[group[0]].model, [items[row].input for row in group]) for group in groups),
        return_exceptions=True,
    )
    found: dict[int, Encoded | Exception] = {}
    for group, answer in zip(groups, answers, strict=True):
        if isinstance(answer, BaseException) and not isinstance(answer, Exception):
            raise answer
        found |= dict(
            zip(group, [answer] * len(group) if isinstance(answer, Exception) else answer, strict=True)
        )
    return [found[row] for row in range(len(items))]
