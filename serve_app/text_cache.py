"""Text vectors that one replica remembers: people page through results and repeat one another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from serve_app.messages import Encoded


class TextCache:
    """A text encoding call that remembers its last `size` answers."""

    def __init__(self, encode: Callable[[str], Awaitable[Encoded]], size: int) -> None:
        self._encode = encode
        self._size = size
        self._known: OrderedDict[str, Encoded] = OrderedDict()

    async def __call__(self, text: str) -> Encoded:
        """The vector of a text, encoded or remembered."""
        known = self._known.get(text)
        if known is not None:
            self._known.move_to_end(text)
            return known
        encoded = await self._encode(text)
        if self._size:
            self._known[text] = encoded
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        return encoded

    def __len__(self) -> int:
        return len(self._known)
