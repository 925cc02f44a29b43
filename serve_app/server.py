"""The server on one machine: Ray, the holder of the embedded store, and both applications in one call."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import ray

from search_core.errors import NothingPublishedError, UsageError
from search_core.model import ModelSpec, present_model, resolve_model
from search_core.owner import start_owner, stop_owner
from search_core.server_file import RunningServer, find_server, note_path, process_start
from search_core.settings import Settings, StoreSettings
from search_core.store import Store, published
from search_core.stores import open_store
from serve_app.local_port import require_free_port
from serve_app.local_ray import local_ray
from serve_app.stopping import stop_on_signals
from serve_app.tracing import export_to

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

APPLICATIONS = "serve_app.running"  # imports Ray Serve and all that is served: seconds
LEFTOVER_PORT_S = 10.0
"""How long the port of a server that was killed may take to become free."""


def run_server(
    settings: Settings,
    config: Callable[[], ServeDeploySchema],
    meanwhile: Callable[[], None] | None = None,
    imports: Sequence[str] = (),
) -> None:
    """Serves until SIGINT or SIGTERM, then takes everything down again.

    `config` is asked for once Ray runs. `meanwhile` is called while Serve and its replicas start, in this process, which is connected to the
    server's Ray; `imports` are the modules it needs, loaded while Ray starts. Other commands find the server from when
    it holds the store; a line on stdout says that both are done.

    Raises:
        UsageError: the port is taken, a server of this store runs already, or the exporter of traces is missing.
        ModelMismatchError: the published collection was made by another model than its name stands for now.
        ModelError: that model is not to be had.
        StoreError: the store is held by another process, or does not answer.
        StartError: a replica could not be made, for instance as the model cannot be loaded.
    """
    settings = _absolute(settings)
    export_to(settings.serve.tracing)
    with stop_on_signals() as signals:
        _refuse_second(settings.store)
        killed_before = note_path(settings.store).exists()
        require_free_port(settings.serve.host, settings.serve.port, LEFTOVER_PORT_S if killed_before else 0.0)
        with local_ray((APPLICATIONS, *imports), settings.serve.metrics_port):
            signals.install()
            with _store(settings) as store:
                spec = asyncio.run(serving_spec(store, settings))
                from serve_app.running import running_applications

                with (
                    _announced(settings),
                    running_applications(settings, spec, config(), meanwhile),
                ):
                    sys.stdout.write(f"Image Search is ready: {settings.serve.url}\n")
                    sys.stdout.flush()
                    signals.wait()


async def serving_spec(store: Store, settings: Settings) -> ModelSpec:
    """The model to begin with: the published collection's, or the one of the settings before the first index.

    Raises:
        ModelMismatchError: the collection's model is another one now, though its name is the same.
    """
    try:
        collection = await published(store, settings.store.collection)
    except NothingPublishedError:
        return resolve_model(settings.model.name)
    return present_model(collection.spec)


def _refuse_second(store: StoreSettings) -> None:
    running = find_server(store)
    if running is not None:
        raise UsageError(f"this store is served already, at {running.url} (process {running.pid})")


def _absolute(settings: Settings) -> Settings:
    """Settings whose paths mean the same in every process."""
    store = settings.store.model_copy(update={"path": settings.store.path.absolute()})
    media = settings.media_root.absolute()
    return settings.model_copy(
        update={"store": store, "serve": settings.serve.model_copy(update={"media_root": media})}
    )


@contextlib.contextmanager
def _store(settings: Settings) -> Iterator[Store]:
    """The store as this process sees it; the embedded one is held by an actor until the block ends."""
    if settings.store.qdrant_url:
        yield open_store(settings.store)
        return
    store = start_owner(settings.store, releases=True)
    try:
        yield store
    finally:
        stop_owner(store)


@contextlib.contextmanager
def _announced(settings: Settings) -> Iterator[None]:
    """Tells other commands where the server is."""
    started = process_start(os.getpid()) or ""
    address = ray.get_runtime_context().gcs_address
    try:
        RunningServer(os.getpid(), started, settings.serve.url, address).write(settings.store)
        yield
    finally:
        RunningServer.remove(settings.store)
