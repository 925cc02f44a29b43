"""The server on one machine: Ray, the holder of the embedded store, and both applications in one call."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ray
from ray import serve
from ray.serve.schema import ApplicationStatus, ServeDeploySchema

from search_core.errors import NothingPublishedError, StoreError, UsageError
from search_core.model import ModelSpec, present_model, resolve_model
from search_core.owner import start_owner, stop_owner
from search_core.server_file import FILE_NAME, RunningServer, find_server, process_start
from search_core.settings import Settings
from search_core.silence import silent_stderr
from search_core.store import Store, published
from search_core.stores import open_store
from serve_app.app import build_applications
from serve_app.failures import start_error
from serve_app.local_port import require_free_port
from serve_app.stopping import stop_on_signals

LEFTOVER_PORT_S = 10.0
"""How long the port of a server that was killed may take to become free."""
ANSWER_TIMEOUT_S = 30.0
STATUS_POLL_S = 0.1
LEAST_CPUS = 2
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # Ray's C++ notes on stderr are not for our users
    "GRADIO_ANALYTICS_ENABLED": "False",
}

logger = logging.getLogger(__name__)


def run_server(
    settings: Settings, config: ServeDeploySchema, meanwhile: Callable[[], None] | None = None
) -> None:
    """Serves until SIGINT or SIGTERM, then takes everything down again.

    `meanwhile` is called while Serve and its replicas start, in this process, which is connected to the
    server's Ray. The server is announced once both are done.

    Raises:
        UsageError: the port is taken, or a server of this store runs already.
        ModelMismatchError: the published collection was made by another model than its name stands for now.
        ModelError: that model is not to be had.
        StoreError: the store is held by another process, or does not answer.
        StartError: a replica could not be made, for instance as the model cannot be loaded.
    """
    settings = _absolute(settings)
    with stop_on_signals() as signals:
        _refuse_second(settings.store.path)
        killed_before = (settings.store.path / FILE_NAME).exists()
        require_free_port(settings.serve.host, settings.serve.port, LEFTOVER_PORT_S if killed_before else 0.0)
        with _ray():
            signals.install()
            with _store(settings) as store:
                spec = asyncio.run(serving_spec(store, settings))
                with _applications(settings, spec, config, meanwhile), _announced(settings):
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


def server_url(settings: Settings) -> str:
    """Where a browser on this machine finds the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.serve.host, settings.serve.host)
    return f"http://{host}:{settings.serve.port}"


def _refuse_second(store: Path) -> None:
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
def _ray() -> Iterator[None]:
    """A Ray of our own on this machine, which dies with this process however it ends."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        try:
            _start_ray()
        except Exception:  # its head process sometimes misses its own deadline on a cold disk
            logger.warning("Ray did not start; trying once more", exc_info=True)
            ray.shutdown()
            _start_ray()
        yield
    finally:
        ray.shutdown()


def _start_ray() -> None:
    with silent_stderr():
        ray.init(
            address="local",
            num_cpus=max(LEAST_CPUS, os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
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
def _applications(
    settings: Settings, spec: ModelSpec, config: ServeDeploySchema, meanwhile: Callable[[], None] | None
) -> Iterator[None]:
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="deploy") as pool:
            deployed = pool.submit(_deploy, settings, spec, config)
            if meanwhile is not None:
                meanwhile()
            deployed.result()
        _wait_until_running()
        _wait_for_answer(settings)
        yield
    finally:
        with contextlib.redirect_stdout(io.StringIO()):  # Ray prints its surprise that actors end
            serve.shutdown()


def _deploy(settings: Settings, spec: ModelSpec, config: ServeDeploySchema) -> None:
    """Starts Serve and tells it what to run; its replicas are not there yet when this returns."""
    http_options = config.http_options.model_dump(exclude_unset=True)
    serve.start(
        proxy_location=config.proxy_location,
        http_options={**http_options, "host": settings.serve.host, "port": settings.serve.port},
        logging_config=config.logging_config,
    )
    serve.run_many(build_applications(settings, spec, config), wait_for_applications_running=False)


def _wait_until_running() -> None:
    """Waits for all replicas of all applications.

    Raises:
        StartError: one of them cannot start.
    """
    while True:
        status = serve.status()
        states = {application.status for application in status.applications.values()}
        if ApplicationStatus.DEPLOY_FAILED in states or ApplicationStatus.UNHEALTHY in states:
            raise start_error(status)
        if states == {ApplicationStatus.RUNNING}:
            return
        time.sleep(STATUS_POLL_S)


def _wait_for_answer(settings: Settings) -> None:
    """Applications run before the proxy knows their routes: waits until it does."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    with httpx.Client(base_url=server_url(settings), trust_env=False, timeout=ANSWER_TIMEOUT_S) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/api/health").status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
    raise StoreError(f"the server does not answer at {server_url(settings)}")


@contextlib.contextmanager
def _announced(settings: Settings) -> Iterator[None]:
    """Tells other commands, and whoever started this one, where the server is."""
    url = server_url(settings)
    started = process_start(os.getpid()) or ""
    address = ray.get_runtime_context().gcs_address
    try:
        RunningServer(os.getpid(), started, url, address).write(settings.store.path)
        sys.stdout.write(f"Image Search is ready: {url}\n")
        sys.stdout.flush()
        yield
    finally:
        RunningServer.remove(settings.store.path)
