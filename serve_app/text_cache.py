"""Text vectors that one replica remembers: people page through results and repeat one another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from search_core.model import ModelSpec
from serve_app.messages import Encoded
from serve_app.visits import visit


class TextCache:
    """A text encoding call that remembers its last `size` answers, each for the model that gave it."""

    def __init__(self, encode: Callable[[str, ModelSpec], Awaitable[Encoded]], size: int) -> None:
        self._encode = encode
        self._size = size
        self._known: OrderedDict[tuple[str, str], Encoded] = OrderedDict()

    async def __call__(self, text: str, spec: ModelSpec) -> Encoded:
        """The vector of a text by a model, encoded or remembered."""
        key = spec.fingerprint, text
        known = self._known.get(key)
        if known is not None:
            visit().cache_hits += 1
            self._known.move_to_end(key)
            return known
        visit().cache_misses += 1
        encoded = await self._encode(text, spec)
        if self._size:
            self._known[key] = encoded
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return encoded

    def __len__(self) -> int:
        return len(self._known)
