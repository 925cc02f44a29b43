"""`image-search serve` and `image-search demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search_core.errors import ModelMismatchError, UsageError
from search_core.settings import Settings, load_settings

if TYPE_CHECKING:
    from ray.serve.schema import ServeDeploySchema

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def run(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM.

    Raises:
        SearchError: the port is taken, the store is held, or the collection's model is not at hand.
    """
    from serve_app.server import run_server

    run_server(settings, lambda: _config(settings))


def run_demo(port: int | None, store: Path | None) -> None:
    """Indexes the samples into a store of their own, if need be, and serves it.

    Raises:
        SearchError: as `run`, or the samples are not there.
    """
    from serve_app.server import run_server

    settings = load_settings()
    own = settings.store.path.with_name(settings.store.path.name + "-demo")
    changes: dict[str, dict[str, Any]] = {
        "store": {"path": store or own, "qdrant_url": None},
        "serve": {"port": port or settings.serve.port},
    }
    settings = settings.changed(changes)
    if not SAMPLES.is_dir():
        raise UsageError("the sample pictures are part of the source checkout: run the demo from there")
    click.echo("Starting the servers and indexing the sample pictures ...", err=True)
    run_server(
        settings,
        lambda: _config(settings),
        meanwhile=lambda: _index_samples(settings),
        imports=["batch_index.pipeline"],
    )


def _config(settings: Settings) -> ServeDeploySchema:
    from cluster.serve_configs import load

    return load(settings.serve.config)


def _index_samples(settings: Settings) -> None:
    from cli.indexing import run as run_index

    sources = [str(SAMPLES)]
    try:
        report = run_index(settings, sources, delete_missing=True, within_server=True)
    except ModelMismatchError:  # another version of the model made the demo's collection
        report = run_index(settings, sources, rebuild=True, within_server=True)
    click.echo(f"{report.seen} pictures, {report.added} new.", err=True)
