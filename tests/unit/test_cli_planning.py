"""`image-search plan`: its numbers follow from the measured constants, wrong input is one line, and docs/capacity.md
shows what it prints.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_index import plan_file
from cli.main import cli
from cluster.capacity import ingest, measured
from cluster.capacity.gpus import PACES
from cluster.capacity.plan import Plan, make_plan
from cluster.capacity.request import Request
from cluster.capacity.retrieval import MEMORY_USE, retrieval
from search_core.settings import IndexSettings, QdrantSettings
from tools.capacity_page import TARGET, capacity_page

BILLION = Request(images=1e9, qps=500)
NODE: dict[str, Any] = {
    "quantization": "none",
    "replicas": 1,
    "vectors_on_disk": False,
    "node_memory_gb": 128,
    "node_cores": 16,
}


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *words])


def settings_of(plan: Plan) -> IndexSettings:
    advice = plan.ingest.advice
    return IndexSettings(
        encoders=advice.encoders,
        gpus_per_encoder=advice.gpus_per_encoder,
        preparers=advice.preparers,
        batch_size=advice.batch_size,
        max_in_flight=advice.max_in_flight,
        max_tasks_in_flight=advice.max_tasks_in_flight,
    )


def test_page_shows_what_the_command_prints() -> None:
    text = TARGET.read_text(encoding="utf-8")
    assert text == capacity_page(text), "run `make docs`"
    assert all(f"--images {number}" in text for number in ("15000", "1e8", "1e9", "1e11"))


def test_text_and_json_have_the_same_answer() -> None:
    words = ("--images", "1e9", "--dim", "512", "--qps", "500")
    plan = json.loads(run(*words, "--json").stdout)
    text = run(*words).stdout
    assert f"{plan['ingest']['gpus']} (a10)" in text
    assert f"{plan['retrieval']['nodes']:,} = {plan['retrieval']['shards']:,} shards" in text
    assert all(remark.split()[0] in text for remark in plan["assumptions"])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--images", "many"),
        ("--images", "0"),
        ("--images", "-3"),
        ("--images", "nan"),
        ("--images", "inf"),
        ("--images", "1e6", "--dim", "5"),
        ("--images", "1e6", "--gpu", "abacus"),
        ("--images", "1e6", "--gpus", "3", "--hours", "2"),
        ("--images", "1e6", "--quantization", "int4"),
    ],
)
def test_wrong_input_is_one_line(words: tuple[str, ...]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert len([line for line in result.output.splitlines() if line.startswith("Error: ")]) == 1


def test_gpus_and_hours_are_two_sides_of_one_thing() -> None:
    by_hours = make_plan(replace(BILLION, hours=10.0))
    by_gpus = make_plan(replace(BILLION, hours=None, gpus=by_hours.ingest.gpus))
    assert by_gpus.ingest.hours == by_hours.ingest.hours <= 10
    fewer = make_plan(replace(BILLION, hours=None, gpus=by_hours.ingest.gpus - 1))
    assert fewer.ingest.hours > 10


def test_a_given_pace_replaces_the_assumed_one() -> None:
    plan = make_plan(replace(BILLION, hours=None, gpus=10, images_per_s=1000.0))
    assert plan.ingest.images_per_s == pytest.approx(10 * 1000 * ingest.GPU_BUSY)
    assert "as given" in plan.assumptions[0]


def test_every_pace_says_where_it_is_from() -> None:
    assert all(pace.images_per_s > 0 and len(pace.source) > 20 for pace in PACES.values())


def test_recommended_settings_are_accepted_and_hold_what_is_under_way() -> None:
    for images in (15_000, 1e8, 1e9):
        plan = make_plan(replace(BILLION, images=images))
        settings, advice = settings_of(plan), plan.ingest.advice
        assert settings.max_in_flight >= settings.preparers * advice.shard_rows
        assert settings.encoders * settings.gpus_per_encoder == math.ceil(plan.ingest.gpus / plan.ingest.runs)


def test_an_encoder_on_a_cpu_asks_for_no_gpu() -> None:
    plan = make_plan(replace(BILLION, gpu="cpu", hours=None, gpus=4))
    assert settings_of(plan).gpus_per_encoder == 0
    assert settings_of(plan).encoders == math.ceil(4 / plan.ingest.runs)


def test_runs_are_as_many_as_driver_and_coordinator_need() -> None:
    plan = make_plan(replace(BILLION, hours=None, gpus=1000))
    assert plan.ingest.runs > 1
    assert plan.ingest.images_per_s <= plan.ingest.runs * plan.ingest.run_limit_images_per_s
    assert any(f"{plan.ingest.runs} runs side by side" in warning for warning in plan.warnings)
    assert make_plan(replace(BILLION, hours=None, gpus=1)).ingest.runs == 1


def test_memory_is_vectors_copies_and_what_is_measured_beside_them() -> None:
    overhead = measured.per_vector().memory_bytes
    full = retrieval(1e9, 512, 1, **NODE)
    assert full.memory_gb == pytest.approx(2048 + overhead)
    assert retrieval(1e9, 512, 1, **{**NODE, "quantization": "int8"}).memory_gb == pytest.approx(
        2560 + overhead
    )
    on_disk = {**NODE, "quantization": "int8", "vectors_on_disk": True}
    assert retrieval(1e9, 512, 1, **on_disk).memory_gb == pytest.approx(512 + overhead)
    assert (
        retrieval(1e9, 512, 1, **on_disk).disk_gb
        == retrieval(1e9, 512, 1, **{**NODE, "quantization": "int8"}).disk_gb
    )
    twice = retrieval(1e9, 512, 1, **{**NODE, "replicas": 2})
    assert (twice.memory_gb, twice.nodes) == (2 * full.memory_gb, 2 * full.nodes)


def test_a_copy_fits_into_its_nodes_and_no_node_is_spare() -> None:
    found = retrieval(1e9, 512, 1, **NODE)
    assert found.memory_gb_per_node <= 128 * MEMORY_USE
    assert found.memory_gb / (found.shards - 1) > 128 * MEMORY_USE


def test_more_queries_take_more_replicas_and_no_more_shards() -> None:
    few, many = retrieval(1e8, 512, 1, **NODE), retrieval(1e8, 512, 5000, **NODE)
    assert many.shards == few.shards
    assert many.replicas > few.replicas
    assert many.max_qps >= 5000 > many.max_qps - few.max_qps


def test_a_query_costs_as_many_segments_as_there_are() -> None:
    small, large = retrieval(1e8, 512, 1, **NODE), retrieval(1e9, 512, 1, **NODE)
    assert large.core_ms_per_query / small.core_ms_per_query == pytest.approx(
        large.segments_per_query / small.segments_per_query, rel=0.05
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 1e11}, "no such federation"),
        ({"images": 1e11}, "lists and plans all pictures"),
        ({"daily_changes_percent": 0.5}, "longer than a day"),
        ({"gpus": 5000, "hours": None}, "points/s, fewer than the GPUs give"),
        ({"vectors_on_disk": True}, "without quantization"),
        ({"quantization": "binary"}, "quantized vectors were not measured"),
        (
            {"quantization": "int8", "vectors_on_disk": True, "node_memory_gb": 1024.0},
            "million vectors a node",
        ),
        ({}, "it is arithmetic"),
    ],
)
def test_warnings(changes: dict[str, Any], words: str) -> None:
    assert any(words in warning for warning in make_plan(replace(BILLION, **changes)).warnings)


def test_a_small_corpus_needs_no_warning() -> None:
    assert make_plan(Request(images=15_000, qps=5, replicas=1)).warnings == ()


def test_daily_changes_are_a_share_of_the_first_run() -> None:
    plan = make_plan(replace(BILLION, daily_changes_percent=1.0))
    assert plan.daily is not None
    assert plan.daily.gpu_hours == pytest.approx(plan.ingest.hours * plan.ingest.gpus / 100)


def test_constants_are_those_of_the_code_they_stand_for() -> None:
    assert (ingest.SHARD_ROWS, ingest.MAX_SHARD_ROWS) == (plan_file.SHARD_ROWS, plan_file.MAX_SHARD_ROWS)
    assert (ingest.MANY_SHARDS, ingest.SHARDS_IN_FLIGHT) == (
        plan_file.MANY_SHARDS,
        plan_file.SHARDS_IN_FLIGHT,
    )
    assert IndexSettings().max_in_flight == ingest.MIN_IN_FLIGHT
    assert {row["query"]["ef"] for row in measured.load("qdrant")["collections"]} == {
        QdrantSettings().hnsw_ef
    }


@pytest.mark.parametrize("name", ["pipeline", "qdrant"])
def test_measurements_name_their_machine_and_command(name: str) -> None:
    assert "python -m benchmarks." in measured.machine(name)
    assert measured.load(name)["machine"]["processor"]
