"""`image-search`: commands, their options, and how failures look."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from cli.planning import plan
from search_core.errors import SearchError, UsageError
from search_core.settings import Settings, load_settings

OK, FAILURE, WRONG_USE = 0, 1, 2
DEBUG_VARIABLE = "IMAGE_SEARCH_DEBUG"
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # Ray's ports are open on all interfaces; and who joins a server's Ray must know the mode
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray tells of lost processes on stdout, where our documents go
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads of two encoders on the same cores slow each other tenfold
    "GRADIO_ANALYTICS_ENABLED": "False",
}
"""What our commands set for the libraries, unless the user has; they read it when they are imported."""

Command = TypeVar("Command", bound=Callable[..., Any])


def main() -> None:
    """Runs the command line. Exit 0 on success, 2 on wrong use, 1 on failure with one clear line."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: asyncio's own handler would wait for an await
        signal.signal(number, _stop)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        sys.exit(cli(standalone_mode=False) or OK)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(WRONG_USE if isinstance(error, click.UsageError) else FAILURE)
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped; run the same command again to go on", FAILURE)
    except UsageError as error:
        _fail(str(error), WRONG_USE)
    except SearchError as error:
        _fail(str(error), FAILURE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads us any more: be quiet
        sys.exit(FAILURE)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        line = (str(error).splitlines() or [""])[0][:300]
        _fail(f"unexpected {type(error).__name__}: {line} (set {DEBUG_VARIABLE}=1 to see where)", FAILURE)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(line: str, code: int) -> None:
    click.echo(f"image-search: {line}", err=True)
    sys.exit(code)


def store_options(command: Command) -> Command:
    """`--store`, `--qdrant-url` and `--collection`."""
    for option in reversed(
        [
            click.option(
                "--store",
                type=click.Path(path_type=Path),
                help="Folder of the embedded store [default: .image-search].",
            ),
            click.option(
                "--qdrant-url", help="URL of a Qdrant server to use instead, such as http://127.0.0.1:6333."
            ),
            click.option("--collection", help="Name of the collection [default: images]."),
        ]
    ):
        command = option(command)
    return command


def settings_with(
    *,
    store: Path | None = None,
    qdrant_url: str | None = None,
    collection: str | None = None,
    model: str | None = None,
    port: int | None = None,
) -> Settings:
    """The settings of this process, with what the command line says on top.

    Raises:
        UsageError: a value is wrong, or both kinds of store are named.
    """
    if store is not None and qdrant_url is not None:
        raise UsageError("give --store or --qdrant-url, not both")
    settings = load_settings()
    groups: dict[str, dict[str, Any]] = {
        "store": {"path": store, "qdrant_url": qdrant_url, "collection": collection},
        "model": {"name": model},
        "serve": {"port": port},
    }
    if store is not None:
        settings = settings.model_copy(
            update={"store": settings.store.model_copy(update={"qdrant_url": None})}
        )
    changes = {
        name: {key: value for key, value in given.items() if value is not None}
        for name, given in groups.items()
    }
    return settings.changed(changes)


class Commands(click.Group):
    """Commands whose end by a signal is told by `main` alone: click would write an empty line first."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                click.echo(err=True)  # after the terminal's own ^C
            raise click.Abort from None


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="image-search-engine")
def cli() -> None:
    """Find pictures by what they show: describe one in words, show one, or both."""


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@store_options
@click.option(
    "--model", help="builtin, ARCH/PRETRAINED, ARCH/path-to-weights, hf-hub:org/name or local-dir:path."
)
@click.option(
    "--captions", type=click.Path(path_type=Path), help="JSON lines with captions and other columns."
)
@click.option("--rebuild", is_flag=True, help="Build a new collection beside the published one, then switch.")
@click.option("--delete-missing", is_flag=True, help="Delete points below the sources whose file is gone.")
@click.option("--retry-quarantined", is_flag=True, help="Try broken files again that have not changed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def index(
    sources: tuple[str, ...],
    store: Path | None,
    qdrant_url: str | None,
    collection: str | None,
    model: str | None,
    captions: Path | None,
    rebuild: bool,
    delete_missing: bool,
    retry_quarantined: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Index pictures; run it again to add what is new.

    SOURCE is a folder, a file or a glob, on disk or in an object store: pictures, tars, Parquet files, lists of URLs.
    """
    from cli.indexing import run

    settings = settings_with(store=store, qdrant_url=qdrant_url, collection=collection, model=model)
    report = run(
        settings,
        sources,
        captions=captions,
        rebuild=rebuild,
        delete_missing=delete_missing,
        retry_quarantined=retry_quarantined,
        dry_run=dry_run,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(report.to_text())


@cli.command()
@click.argument("text", required=False)
@click.option("--image", type=click.Path(path_type=Path), help="A picture to search with.")
@click.option("--not", "without", metavar="TEXT", help="What results should not show.")
@click.option(
    "-k", "limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="Number of results."
)
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print the hits as JSON.")
def search(
    text: str | None,
    image: Path | None,
    without: str | None,
    limit: int,
    store: Path | None,
    qdrant_url: str | None,
    collection: str | None,
    as_json: bool,
) -> None:
    """Search by TEXT, by --image, or by both."""
    from cli.searching import run

    settings = settings_with(store=store, qdrant_url=qdrant_url, collection=collection)
    hits = run(settings, text=text, image=image, without=without, limit=limit)
    if as_json:
        print_json([{key: hit[key] for key in ("id", "uri", "score", "payload")} for hit in hits])
        return
    for hit in hits:
        click.echo(f"{hit['score']:.4f}  {hit['uri']}  {hit['payload'].get('caption', '')}".rstrip())


@cli.command("eval")
@click.argument("file", type=click.Path(path_type=Path))
@store_options
@click.option(
    "--gallery",
    type=click.Choice(["named", "all"]),
    default="named",
    help="Rank the images FILE names, or all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(
    file: Path,
    store: Path | None,
    qdrant_url: str | None,
    collection: str | None,
    gallery: str,
    as_json: bool,
) -> None:
    """Measure recall with a FILE of captions.

    FILE has JSON lines {"image": uri-or-file-name, "captions": [...]}.
    """
    from cli.evaluating import run, to_text

    result = run(settings_with(store=store, qdrant_url=qdrant_url, collection=collection), file, gallery)
    if as_json:
        print_json(result)
    else:
        click.echo(to_text(result))


@cli.command()
@store_options
@click.option("--port", type=click.IntRange(1, 65535), help="Port of page and API [default: 8000].")
@click.option("--model", help="Model to wait with while nothing is published yet.")
def serve(
    store: Path | None, qdrant_url: str | None, collection: str | None, port: int | None, model: str | None
) -> None:
    """Serve the page and the HTTP API until stopped."""
    from cli.serving import run

    run(settings_with(store=store, qdrant_url=qdrant_url, collection=collection, port=port, model=model))


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of page and API [default: 8000].")
@click.option("--store", type=click.Path(path_type=Path), help="Folder of the demo's own store.")
def demo(port: int | None, store: Path | None) -> None:
    """Index the sample pictures, if need be, and serve them."""
    from cli.serving import run_demo

    run_demo(port, store)


@cli.command()
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print the status as JSON.")
def status(store: Path | None, qdrant_url: str | None, collection: str | None, as_json: bool) -> None:
    """Show collections, last run, quarantine and server."""
    from cli.status import gather, to_text

    result = gather(settings_with(store=store, qdrant_url=qdrant_url, collection=collection))
    if as_json:
        print_json(result)
    else:
        click.echo(to_text(result))


@cli.group()
def collections() -> None:
    """List, publish, roll back or drop collections."""


@collections.command("list")
@store_options
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def collections_list(
    store: Path | None, qdrant_url: str | None, collection: str | None, as_json: bool
) -> None:
    """List all collections."""
    from cli.catalog import list_all, to_text

    result = list_all(settings_with(store=store, qdrant_url=qdrant_url, collection=collection))
    if as_json:
        print_json(result)
    else:
        click.echo(to_text(result))


@collections.command("publish")
@click.argument("name")
@click.option("--force", is_flag=True, help="Also if the checks before publishing refused it.")
@store_options
def collections_publish(
    name: str, force: bool, store: Path | None, qdrant_url: str | None, collection: str | None
) -> None:
    """Make NAME the collection that readers see."""
    from cli.catalog import publish

    settings = settings_with(store=store, qdrant_url=qdrant_url, collection=collection)
    publish(settings, name, force=force)
    click.echo(f"published {name}")


@collections.command("rollback")
@store_options
def collections_rollback(store: Path | None, qdrant_url: str | None, collection: str | None) -> None:
    """Go back to the collection that the published one replaced."""
    from cli.catalog import rollback

    name = rollback(settings_with(store=store, qdrant_url=qdrant_url, collection=collection))
    click.echo(f"published {name}")


@collections.command("drop")
@click.argument("name")
@store_options
def collections_drop(name: str, store: Path | None, qdrant_url: str | None, collection: str | None) -> None:
    """Delete the collection NAME, which must not be published."""
    from cli.catalog import drop

    drop(settings_with(store=store, qdrant_url=qdrant_url, collection=collection), name)
    click.echo(f"dropped {name}")


cli.add_command(plan)
