"""A model of the embedding pipeline, event by event, on given times of its stages.

It follows `batch_index`: shards are handed out while there is room (`index.max_in_flight`), a task prepares one on a core
of its own, batches wait for an encoder with a free place (`index.max_tasks_in_flight`), an encoder works on two at once,
its model on one, and coordinator and driver are one process each. Left out: memory of the object store, the network, the
source's pace, restarts and failures, the run's beginning and its end.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

from batch_index.pipeline import CALLS_AT_ONCE
from benchmarks.stage_times import StageTimes

Steps = Generator[Any, Any, None]
SEED = 1
WARM_UP, WINDOW = 2, 4
"""Shards of each preparer: so many until the pipeline is taken to be full, and so many for the figures."""
FULL = 0.95
"""A process that is busier than this holds the others up."""


@dataclass(frozen=True)
class Run:
    """A run's machines and settings; `preparers` have a core each, `images_per_s` is of one GPU."""

    gpus: int
    images_per_s: float
    encoders_per_gpu: int
    preparers: int
    batch_size: int
    shard_rows: int
    max_in_flight: int
    max_tasks_in_flight: int
    qdrant_cores: int


@dataclass(frozen=True)
class Outcome:
    """Shares of the time, 0 to 1: GPUs, coordinator, driver, Qdrant's cores, encoders' threads (waiting for their GPU or
    the coordinator among it) and preparers at work, and preparers waiting for room.
    """

    gpus: int
    busy: float
    images_per_s: float
    coordinator: float
    driver: float
    qdrant: float
    encoders: float
    preparers: float
    no_room: float

    @property
    def bottleneck(self) -> str:
        """What keeps the GPUs from being busy all the time."""
        shares = {"coordinator": self.coordinator, "driver": self.driver, "Qdrant": self.qdrant}
        name, share = max(shares.items(), key=lambda pair: pair[1])
        if self.busy >= FULL:
            return "GPUs"
        if share >= FULL:
            return name
        if self.encoders >= FULL:
            return "encoders"
        if self.no_room > 1 - FULL:
            return "max_in_flight"
        return "preparers"


class Station:
    """Something of which there are some, and how long they were at work."""

    def __init__(self, env: simpy.Environment, number: int = 1) -> None:
        self._env = env
        self._number = number
        self._resource = simpy.Resource(env, number)
        self._from = 0.0
        self._busy_s = 0.0

    def work(self, seconds: float) -> Steps:
        """Waits for one of them, and has it work."""
        yield from self.hold(self._for(seconds))

    def hold(self, steps: Steps) -> Steps:
        """The same for as long as steps take."""
        with self._resource.request() as turn:
            yield turn
            began = self._env.now
            yield from steps
            self._busy_s += self._env.now - began

    def _for(self, seconds: float) -> Steps:
        yield self._env.timeout(seconds)

    def reset(self) -> None:
        """Forgets what was before."""
        self._from, self._busy_s = self._env.now, 0.0

    def share(self) -> float:
        """Of the time since then; what was at work at its start counts whole, what is at its end not yet."""
        return self._busy_s / (self._number * (self._env.now - self._from))


class Simulation:
    """One run. Deterministic: the same run, times and seed give the same outcome."""

    def __init__(self, run: Run, times: StageTimes, seed: int = SEED) -> None:
        self._run, self._times = run, times
        self._rng = np.random.default_rng(seed)
        self._env = env = simpy.Environment()
        self._room = simpy.Container(env, run.max_in_flight, init=run.max_in_flight)
        self._ready = simpy.Store(env)
        self._places = simpy.Store(env)
        self._coordinator, self._driver = Station(env), Station(env)
        self._qdrant = Station(env, run.qdrant_cores)
        self._preparing = Station(env, run.preparers)
        self._gpus = [Station(env) for _ in range(run.gpus)]
        self._encoders = [Encoder(env, gpu) for gpu in self._gpus for _ in range(run.encoders_per_gpu)]
        self._written = 0
        self._waited_s = 0.0
        self._from = 0.0

    def outcome(self) -> Outcome:
        """Runs it: first until the pipeline is full, then for the time that counts."""
        run, env = self._run, self._env
        for _ in range(run.preparers):
            env.process(self._prepare())
        for _ in range(max(CALLS_AT_ONCE, run.max_tasks_in_flight)):
            for encoder in self._encoders:
                self._places.put(encoder)
        env.process(self._dispatch())
        self._until_written(WARM_UP * run.preparers * run.shard_rows)
        stations = [self._coordinator, self._driver, self._qdrant, self._preparing, *self._gpus]
        models = [encoder.model for encoder in self._encoders]
        for station in (*stations, *models):
            station.reset()
        self._from, self._written, self._waited_s = env.now, 0, 0.0
        self._until_written(WINDOW * run.preparers * run.shard_rows)
        window = env.now - self._from
        return Outcome(
            gpus=run.gpus,
            busy=sum(gpu.share() for gpu in self._gpus) / run.gpus,
            images_per_s=self._written / window,
            coordinator=self._coordinator.share(),
            driver=self._driver.share(),
            qdrant=self._qdrant.share(),
            encoders=sum(model.share() for model in models) / len(models),
            preparers=self._preparing.share(),
            no_room=self._waited_s / (run.preparers * window),
        )

    def _until_written(self, pictures: int) -> None:
        while self._written < pictures:
            self._env.step()

    def _ask(self, seconds: float) -> Steps:
        """A call of the coordinator: its work, in turn, and the way there and back."""
        yield from self._coordinator.work(seconds)
        yield self._env.timeout(max(0.0, self._times.round_trip_s - self._times.count.fixed_s))

    def _prepare(self) -> Steps:
        """One core: shard after shard."""
        run, times, env = self._run, self._times, self._env
        size = run.batch_size
        while True:
            yield from self._driver.work(times.driver_shard.of(run.shard_rows))
            asked = env.now
            yield self._room.get(run.shard_rows)
            self._waited_s += max(0.0, env.now - max(asked, self._from))
            yield from self._ask(times.shard.of(run.shard_rows))
            for start in range(0, run.shard_rows, size):
                pictures = min(size, run.shard_rows - start)
                jitter = float(self._rng.lognormal(0.0, times.spread))
                yield from self._ask(times.claim.of(pictures))
                yield from self._preparing.work(times.prepare.of(pictures) * jitter + times.pack.of(pictures))
                yield from self._ask(times.count.of(pictures))
                yield self._ready.put(pictures)

    def _dispatch(self) -> Steps:
        """The driver hands batches to encoders with a free place."""
        while True:
            pictures = yield self._ready.get()
            encoder = yield self._places.get()
            yield from self._driver.work(self._times.driver_batch.of(pictures) / 2)
            self._env.process(self._embed(encoder, pictures))

    def _embed(self, encoder: Encoder, pictures: int) -> Steps:
        """A batch in an encoder, until the coordinator knows that it is written."""
        times = self._times
        with encoder.calls.request() as call:
            yield call
            yield from encoder.model.hold(self._model(encoder, pictures))
            with encoder.loop.request() as turn:
                yield turn
                yield self._env.timeout(times.write_client.of(pictures))
            yield from self._qdrant.work(times.write_server.of(pictures))
            yield from self._ask(times.count.of(pictures))
        yield self._places.put(encoder)
        yield from self._driver.work(times.driver_batch.of(pictures) / 2)
        yield from self._ask(times.acknowledge.of(pictures))
        yield self._room.put(pictures)
        self._written += pictures

    def _model(self, encoder: Encoder, pictures: int) -> Steps:
        """The model's thread, which waits for the coordinator's answer, too."""
        yield self._env.timeout(self._times.host.of(pictures))
        yield from encoder.gpu.work(pictures / self._run.images_per_s)
        yield from self._ask(self._times.count.of(pictures))


class Encoder:
    """An embedding actor: the calls that it takes at once, the thread of its model, its event loop."""

    def __init__(self, env: simpy.Environment, gpu: Station) -> None:
        self.gpu = gpu
        self.calls = simpy.Resource(env, CALLS_AT_ONCE)
        self.model = Station(env)
        self.loop = simpy.Resource(env)


def simulate(run: Run, times: StageTimes, seed: int = SEED) -> Outcome:
    """The outcome of one run."""
    return Simulation(run, times, seed).outcome()
