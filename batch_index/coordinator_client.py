"""The coordinator as the stages and the driver of a run see it, wherever they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from batch_index.coordinator import Care, Claim, Coordinator, Known
from batch_index.plan_file import Task
from batch_index.progress import Progress

CALLS_AT_ONCE = 1000
"""Most of them wait for room."""


class RemoteCoordinator:
    """`Coordinator` as an actor; may be pickled and used in any process of its Ray."""

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
        found: list[tuple[int, Task, bool]] = ray.get(self._actor.shard.remote(number))
        return found

    def care(self, number: int) -> Care:
        """See `Coordinator.care`."""
        found: Care = ray.get(self._actor.care.remote(number))
        return found

    def begin(self, number: int, row: int | None) -> None:
        """See `Coordinator.begin`."""
        ray.get(self._actor.begin.remote(number, row))

    async def start_again(self) -> None:
        """See `Coordinator.start_again`."""
        await self._actor.start_again.remote()

    def claim(self, ids: Sequence[str], hashes: Sequence[str]) -> list[Claim]:
        """See `Coordinator.claim`."""
        found: list[Claim] = ray.get(self._actor.claim.remote(ids, hashes))
        return found

    def known_as(self, origins: Sequence[str], hashes: Sequence[str]) -> list[Known | None]:
        """See `Coordinator.known_as`."""
        found: list[Known | None] = ray.get(self._actor.known_as.remote(origins, hashes))
        return found

    async def retire(self, ids: Sequence[str]) -> None:
        """See `Coordinator.retire`."""
        await self._actor.retire.remote(ids)

    def count(self, stage: str, pictures: int, seconds: float) -> None:
        """See `Coordinator.count`."""
        ray.get(self._actor.count.remote(stage, pictures, seconds))

    def acknowledge(self, shard: int, rows: Sequence[int], deferred: Sequence[int]) -> None:
        """See `Coordinator.acknowledge`."""
        ray.get(self._actor.acknowledge.remote(shard, rows, deferred))

    def second_pass(self) -> int:
        """See `Coordinator.second_pass`."""
        return int(ray.get(self._actor.second_pass.remote()))

    def progress(self) -> Progress:
        """See `Coordinator.progress`."""
        found: Progress = ray.get(self._actor.progress.remote())
        return found

    def stop(self) -> None:
        """Ends the actor."""
        ray.kill(self._actor)
