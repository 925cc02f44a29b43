"""What can be seen of a run while it goes on: lines of progress, Ray's dashboard, and counters for a metrics server,
among them what the dashboard and the alert rules ask of a run.
"""

from __future__ import annotations

import json
import re
import signal
import threading
from urllib.request import urlopen

import ray

from batch_index.metrics import IndexMetrics
from tests.fixtures.commands import Commands
from tests.fixtures.monitoring import INDEX, Exported, asked
from tests.fixtures.pictures import put, unique
from tests.fixtures.ports import free_port
from tests.fixtures.processes import until

PICTURES = 600


def counters(port: int) -> dict[str, float]:
    """Values of our metrics, added up over processes, by name and stage or outcome."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    found: dict[str, float] = {}
    for line in lines:
        if not line.startswith("ray_image_search_index_"):
            continue
        name, _, rest = line.removeprefix("ray_image_search_index_").partition("{")
        tags, _, value = rest.rpartition("} ")
        tag = next(
            (part.split('"')[1] for part in tags.split(",") if part.startswith(("stage=", "outcome="))), ""
        )
        key = f"{name}.{tag}" if tag else name
        found[key] = found.get(key, 0.0) + float(value)
    return found


def test_dashboard_and_alerts_ask_of_a_run_what_it_exports(local_ray):
    metrics = IndexMetrics("images__1")
    (node,) = ray.nodes()
    exported = Exported(
        f"http://127.0.0.1:{node['MetricsExportPort']}/metrics",
        {one for one in asked() if one.metric.startswith(INDEX)},
    )

    def is_all_there():
        metrics.stage("embed", 1, 0.5)
        metrics.outcome("added", 1)
        metrics.in_flight(1)
        metrics.remaining(1)
        return exported.has_all()

    assert len(exported.wanted) >= 5
    until(is_all_there, exported.missing)


def assert_consistent(line: str) -> None:
    """No picture is shown as done and as in flight."""
    numbers = re.search(r": ([\d,]+) of ([\d,]+) .* ([\d,]+) in flight", line)
    assert numbers, line
    done, total, in_flight = (int(number.replace(",", "")) for number in numbers.groups())
    assert done + in_flight <= total, line


def test_a_run_is_seen_while_it_works(tmp_path):
    for number in range(PICTURES):
        put(tmp_path / "pictures", f"{number:04}.png", unique(number))
    port = free_port()
    commands = Commands(
        tmp_path,
        "--store",
        str(tmp_path / "store"),
        IMAGE_SEARCH_INDEX__PROGRESS_S="0.000001",
        IMAGE_SEARCH_INDEX__DASHBOARD="true",
        IMAGE_SEARCH_INDEX__METRICS_PORT=str(port),
    )
    with commands.start("index", tmp_path / "pictures", "--json") as process:
        watchdog = threading.Timer(250, process.kill)
        watchdog.start()
        try:
            dashboard, line = "", ""
            while not line.startswith("indexing:"):
                assert process.stderr is not None
                line = process.stderr.readline()
                assert line, "the run has ended before it showed a line"
                dashboard = (
                    line.removeprefix("Ray's dashboard: ").strip() if "dashboard" in line else dashboard
                )
            process.send_signal(signal.SIGSTOP)  # its Ray goes on: there is time to look
            until(lambda: counters(port).get("pictures_total.write", 0) > 0)
            seen = counters(port)
            with urlopen(dashboard, timeout=10) as answer:
                assert answer.status == 200
            process.send_signal(signal.SIGCONT)
            out, errors = process.communicate()
        finally:
            watchdog.cancel()
            process.kill()
    assert process.returncode == 0, errors
    commands.assert_nothing_left()

    assert f" of {PICTURES} pictures, " in line
    assert_consistent(line)
    assert all(word in line for word in (" left ", "(prepare ", "embed ", " in flight)"))
    assert {"pictures_total.prepare", "pictures_total.embed", "seconds_total.write", "in_flight"} <= set(seen)
    assert 0 < seen["pictures_total.write"] <= seen["pictures_total.prepare"] <= PICTURES
    report = json.loads(out)
    assert report["stages"]["write"]["pictures"] == report["added"] == PICTURES
    assert {"plan", "load", "publish"} <= set(report["phases"])
