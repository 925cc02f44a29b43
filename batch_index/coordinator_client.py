"""The coordinator as the stages and the driver of a run see it, wherever they run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batch_index.coordinator import Care, Claim, Coordinator, Known
from batch_index.plan_file import Task
from batch_index.progress import Progress
from search_core.errors import RunError

CALLS_AT_ONCE = 1000
"""Most of them wait for room."""


class RemoteCoordinator:
    """`Coordinator` as an actor; may be pickled and used in any process of its Ray. Calls may raise `RunError`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    @classmethod
    def start(cls, *args: Any, **kwargs: Any) -> RemoteCoordinator:
        """Starts it on this process's node, where the plan's file is; takes what `Coordinator` takes."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor_class = ray.remote(num_cpus=0, max_restarts=0)(Coordinator)
        options = {"scheduling_strategy": here, "max_concurrency": CALLS_AT_ONCE}
        return cls(actor_class.options(**options).remote(*args, **kwargs))

    def shard(self, number: int) -> list[tuple[int, Task, bool]]:
        """See `Coordinator.shard`."""
        found: list[tuple[int, Task, bool]] = self._ask("shard", number)
        return found

    def care(self, number: int) -> Care:
        """See `Coordinator.care`."""
        found: Care = self._ask("care", number)
        return found

    def begin(self, number: int, row: int | None) -> None:
        """See `Coordinator.begin`."""
        self._ask("begin", number, row)

    async def start_again(self) -> None:
        """See `Coordinator.start_again`."""
        await self._ask_async("start_again")

    def claim(self, ids: Sequence[str], hashes: Sequence[str]) -> list[Claim]:
        """See `Coordinator.claim`."""
        found: list[Claim] = self._ask("claim", ids, hashes)
        return found

    def known_as(self, origins: Sequence[str], hashes: Sequence[str]) -> list[Known | None]:
        """See `Coordinator.known_as`."""
        found: list[Known | None] = self._ask("known_as", origins, hashes)
        return found

    async def retire(self, ids: Sequence[str]) -> None:
        """See `Coordinator.retire`."""
        await self._ask_async("retire", ids)

    def count(self, stage: str, pictures: int, seconds: float) -> None:
        """See `Coordinator.count`."""
        self._ask("count", stage, pictures, seconds)

    def acknowledge(self, shard: int, rows: Sequence[int], deferred: Sequence[int]) -> None:
        """See `Coordinator.acknowledge`."""
        self._ask("acknowledge", shard, rows, deferred)

    def second_pass(self) -> int:
        """See `Coordinator.second_pass`."""
        return int(self._ask("second_pass"))

    def progress(self) -> Progress:
        """See `Coordinator.progress`."""
        found: Progress = self._ask("progress")
        return found

    def stop(self) -> None:
        """Ends the actor."""
        ray.kill(self._actor)

    def _ask(self, method: str, *args: Any) -> Any:
        with plain_errors():
            return ray.get(getattr(self._actor, method).remote(*args))

    async def _ask_async(self, method: str, *args: Any) -> Any:
        with plain_errors():
            return await getattr(self._actor, method).remote(*args)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raises what an actor raised as it was, and its end as our own error: Ray's do not survive the way on through
    Ray Data.

    Raises:
        RunError: the actor has ended.
    """
    try:
        yield
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise lost(error) from None


def lost(error: BaseException) -> RunError:
    """What a run says that has lost one of its processes."""
    return RunError(
        f"a process of this run has ended ({type(error).__name__}); run the same command again to go on"
    )
