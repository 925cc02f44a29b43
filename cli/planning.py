"""`image-search plan`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import click

from cluster.capacity.gpus import PACES
from cluster.capacity.plan import make_plan
from cluster.capacity.request import Request
from cluster.capacity.retrieval import KINDS, Quantization

DEFAULT_HOURS = 24.0


class Amount(click.ParamType[float]):
    """A number above 0, such as 15000 or 1e9."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuses what is none."""
        try:
            amount = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number such as 15000 or 1e9", param, ctx)
        if not 0 < amount < math.inf:
            self.fail(f"{value} is not above 0, or has no end", param, ctx)
        return amount


AMOUNT = Amount()


@click.command()
@click.option("--images", type=AMOUNT, required=True, help="Pictures of the corpus, such as 15000 or 1e9.")
@click.option("--dim", type=click.IntRange(8, 4096), default=512, help="Numbers of a vector.")
@click.option("--qps", type=AMOUNT, default=10.0, help="Queries a second.")
@click.option(
    "--gpu", type=click.Choice(list(PACES)), default="a10", help="What embeds; cpu is for pairs of cores."
)
@click.option("--images-per-s", type=AMOUNT, help="What one of them embeds a second, if you know better.")
@click.option("--gpus", type=click.IntRange(1), help="How many there are; works out the hours.")
@click.option("--hours", type=AMOUNT, help="How long embedding may take; works out the GPUs [default: 24].")
@click.option("--image-kb", type=AMOUNT, default=100.0, help="Kilobytes of a picture.")
@click.option("--quantization", type=click.Choice(KINDS), default="none", help="Of vectors in memory.")
@click.option("--replicas", type=click.IntRange(1), default=2, help="Copies of each shard, at least.")
@click.option("--vectors-on-disk", is_flag=True, help="Keep full vectors out of memory.")
@click.option("--node-memory-gb", type=AMOUNT, default=128.0, help="Of a Qdrant node.")
@click.option("--node-cores", type=click.IntRange(1), default=16, help="Of a Qdrant node.")
@click.option(
    "--daily-changes", type=click.FloatRange(0, 100), default=0.0, help="Percent that changes in a day."
)
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.pass_context
def plan(
    context: click.Context,
    images: float,
    dim: int,
    qps: float,
    gpu: str,
    images_per_s: float | None,
    gpus: int | None,
    hours: float | None,
    image_kb: float,
    quantization: Quantization,
    replicas: int,
    vectors_on_disk: bool,
    node_memory_gb: float,
    node_cores: int,
    daily_changes: float,
    as_json: bool,
) -> None:
    """Work out machines and hours for a corpus and a load.

    From what was measured and what is assumed; it says which is which.
    """
    from cli.plan_text import to_text

    if gpus is not None and hours is not None:
        raise click.UsageError("give --gpus or --hours, not both", context)
    request = Request(
        images=images,
        dim=dim,
        qps=qps,
        gpu=gpu,
        images_per_s=images_per_s,
        gpus=gpus,
        hours=DEFAULT_HOURS if gpus is None and hours is None else hours,
        image_kb=image_kb,
        quantization=quantization,
        replicas=replicas,
        vectors_on_disk=vectors_on_disk,
        node_memory_gb=node_memory_gb,
        node_cores=node_cores,
        daily_changes_percent=daily_changes,
    )
    result = make_plan(request)
    click.echo(json.dumps(asdict(result), indent=1) if as_json else to_text(result))
