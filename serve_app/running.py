"""Starts both applications on a Ray that runs, waits until they answer, and takes them down again."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
from ray import serve
from ray.serve.schema import ApplicationStatus, LoggingConfig, ServeDeploySchema

from search_core.errors import StoreError
from search_core.model import ModelSpec
from search_core.settings import Settings
from serve_app.app import build_applications
from serve_app.failures import start_error

ANSWER_TIMEOUT_S = 30.0
STATUS_POLL_S = 0.1


@contextlib.contextmanager
def running_applications(
    settings: Settings, spec: ModelSpec, config: ServeDeploySchema, meanwhile: Callable[[], None] | None
) -> Iterator[None]:
    """Both applications, answering at the address of the settings, until the block ends.

    `meanwhile` is called while Serve and its replicas start.

    Raises:
        StartError: a replica could not be made, for instance as the model cannot be loaded.
        StoreError: the server does not answer.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
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
    logging_config = (config.logging_config or LoggingConfig()).model_copy(
        update={"log_level": settings.serve.log_level}
    )
    config = config.model_copy(update={"logging_config": logging_config})
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
    with httpx.Client(base_url=settings.serve.url, trust_env=False, timeout=ANSWER_TIMEOUT_S) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/api/health").status_code == httpx.codes.OK:
                    return
            time.sleep(0.1)
    raise StoreError(f"the server does not answer at {settings.serve.url}")
