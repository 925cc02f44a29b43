"""The nodes of a Qdrant server: a call goes to one of them, and on to the next where that one does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from search_core.errors import NotFoundError, StoreError, StoreUnavailableError
from search_core.settings import StoreSettings

IN_MEMORY = ":memory:"
ROUNDS = 4
"""How often every node is tried: long enough for one reconnection, short enough for a person who waits."""
FIRST_PAUSE_S = 0.25
RECONNECT_MS = 1_000
"""gRPC's own pause before it tries an unreachable address again would grow to two minutes."""
UNREACHABLE = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "503"}
PEER_GONE = (
    "failed to apply operation",
    "status: Unavailable",
    "Please retry",
    "consensus operation commit failed",
    "leader is not established",
)
"""In errors of a node that answers: another, a replica or the leader, has just gone, and the cluster is about to notice."""

T = TypeVar("T")
Ask = Callable[[AsyncQdrantClient], Awaitable[T]]


class QdrantNodes:
    """One client a node. Calls must be idempotent, since one that was cut off is made again."""

    def __init__(self, settings: StoreSettings) -> None:
        """Connects to nothing yet.

        Raises:
            StoreError: the setting is no URL.
        """
        given = settings.qdrant_url or ""
        self.in_memory = given == IN_MEMORY
        self._timeout_s = settings.timeout_s
        self._urls = [url.strip() for url in given.split(",")]
        self._clients = [
            AsyncQdrantClient(location=IN_MEMORY) if self.in_memory else _client(url, settings)
            for url in self._urls
        ]
        self._current = 0

    async def call(self, ask: Ask[T]) -> T:
        """The answer of the first node that gives one, starting at the one that answered last.

        Raises:
            StoreUnavailableError: none does, in so many rounds or so much time.
            NotFoundError: the collection or point is not there.
            StoreError: the server refuses.
        """
        deadline = time.monotonic() + self._timeout_s
        failure = StoreUnavailableError("no Qdrant server")
        for round_number in range(ROUNDS):
            if round_number:
                pause = FIRST_PAUSE_S * 2 ** (round_number - 1)
                if time.monotonic() + pause > deadline:
                    break
                await asyncio.sleep(pause)
            for _ in self._clients:
                node = self._current
                try:
                    return await self._once(node, ask)
                except StoreUnavailableError as error:
                    failure = error
                    if self._current == node:  # else another call has gone on already
                        self._current = (node + 1) % len(self._clients)
        raise failure

    async def close(self) -> None:
        """Closes the channels."""
        for client in self._clients:
            await client.close()

    async def _once(self, node: int, ask: Ask[T]) -> T:
        """One call to one node; turns what it raises into this project's errors."""
        url = self._urls[node]
        try:
            return await ask(self._clients[node])
        except grpc.aio.AioRpcError as error:
            raise _error(
                url, error.code() == grpc.StatusCode.NOT_FOUND, error.code().name, error.details()
            ) from None
        except UnexpectedResponse as error:
            raise _error(url, error.status_code == 404, str(error.status_code), error.reason_phrase) from None
        except (ResponseHandlingException, OSError) as error:
            raise StoreUnavailableError(f"the Qdrant server at {url} does not answer: {error}") from None
        except ValueError as error:  # of the client, before it has asked the server, or in memory
            line = (str(error).splitlines() or ["ValueError"])[0]
            raise (
                NotFoundError(f"Qdrant: {line}") if "not found" in line else StoreError(f"Qdrant: {line}")
            ) from None


def _client(url: str, settings: StoreSettings) -> AsyncQdrantClient:
    """A client of the node at `http://host:port` or, with a gRPC port of its own, `http://host:port#grpc=port`."""
    parts = urlsplit(url)
    name, _, port = parts.fragment.partition("=")
    if parts.scheme not in {"http", "https"} or (parts.fragment and (name != "grpc" or not port.isdecimal())):
        raise StoreError(
            f"Qdrant URL {url!r}: give one such as http://127.0.0.1:6333 or http://127.0.0.1:6333#grpc=6334"
        )
    options: dict[str, Any] = {
        "grpc.initial_reconnect_backoff_ms": RECONNECT_MS // 10,
        "grpc.min_reconnect_backoff_ms": RECONNECT_MS,
        "grpc.max_reconnect_backoff_ms": RECONNECT_MS,
    }
    return AsyncQdrantClient(
        url=parts._replace(fragment="").geturl(),
        api_key=settings.qdrant_api_key,
        prefer_grpc=True,
        grpc_port=int(port) if port else settings.qdrant_grpc_port,
        grpc_options=options,
        timeout=int(max(1, settings.timeout_s)),
        check_compatibility=False,
    )


def _error(url: str, missing: bool, code: str, details: str | None) -> StoreError | NotFoundError:
    text = (details or "").splitlines()[0] if details else code
    if missing:
        return NotFoundError(f"Qdrant: {text}")
    if code in UNREACHABLE or any(sign in text for sign in PEER_GONE):
        return StoreUnavailableError(f"the Qdrant server at {url} does not answer: {text}")
    return StoreError(f"the Qdrant server at {url} refuses: {text}")
