"""Calls to other deployments whose errors are this project's own again, without Ray's wrapping.

Every call between deployments may be made again: it reads, or it writes what was written before. So a call that is
lost with its replica is made again on another one, and whoever asked does not notice.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from search_core.errors import OverloadedError, SearchError

ATTEMPTS = 3
RESTARTING = "a part of the server is restarting: try again in a moment"


class ReplicaLostError(OverloadedError):
    """The replica that had a call is not there any more."""


def method(handle: DeploymentHandle[Any], name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """One method of a deployment as a coroutine function.

    It raises what the deployment raised; OverloadedError when there is no room or no replica for the call.
    """

    async def call(*args: Any) -> Any:
        for _ in range(ATTEMPTS):
            try:
                return await once(*args)
            except ReplicaLostError:
                continue
        raise OverloadedError(
            RESTARTING
        )  # and no ReplicaLostError: whoever called this would do it all again

    async def once(*args: Any) -> Any:
        with _own_errors():
            return await getattr(handle, name).remote(*args)

    return call


def everywhere(handle: DeploymentHandle[Any], name: str) -> Callable[..., Coroutine[Any, Any, list[Any]]]:
    """One method on all present replicas of a deployment at once, as a coroutine function; raises as `method`."""

    async def call(*args: Any) -> list[Any]:
        with _own_errors():
            return await handle.broadcast(name, *args).results_async()

    return call


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except BackPressureError:
        raise OverloadedError("too many requests at once: try again in a moment") from None
    except RayActorError:
        raise ReplicaLostError(RESTARTING) from None
    except DeploymentUnavailableError:
        raise OverloadedError(RESTARTING) from None
    except RayTaskError as error:
        if isinstance(error.cause, SearchError):
            raise error.cause from None
        raise


class Remote:
    """A plain object's coroutine methods, called on a deployment of it. Stands in for the object itself."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if name.startswith("_"):
            raise AttributeError(name)
        return method(self._handle, name)
