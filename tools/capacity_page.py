"""`python -m tools.capacity_page`: the outputs in docs/capacity.md, and its tables of simulated runs, made anew."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from cli.planning import plan
from cluster.capacity import measured

TARGET = Path(__file__).resolve().parent.parent / "docs" / "capacity.md"
PROMPT = "$ image-search plan "
BLOCK = re.compile(r"```console\n(\$ image-search plan [^\n]*)\n.*?```", re.DOTALL)
TABLE = re.compile(r"<!-- (simulated|validated) -->\n.*?<!-- end -->", re.DOTALL)


def capacity_page(text: str) -> str:
    """The page with what the commands on it print, and with the recorded simulation."""
    text = BLOCK.sub(lambda found: f"```console\n{found[1]}\n{_output(found[1])}```", text)
    tables = {"simulated": simulated(), "validated": validated()}
    return TABLE.sub(lambda found: f"<!-- {found[1]} -->\n{tables[found[1]]}\n<!-- end -->", text)


def simulated() -> str:
    """The recorded runs as a table: a row for each number of GPUs, a column for each pace and kind of settings."""
    runs: list[dict[str, Any]] = measured.load("pipeline")["runs"]
    kinds = list(dict.fromkeys((run["images_per_s"], run["settings"]) for run in runs))
    cells = {(run["gpus"], run["images_per_s"], run["settings"]): _cell(run["result"]) for run in runs}
    head = ["GPUs", *(f"{pace:g}/s, {settings}" for pace, settings in kinds)]
    numbers = sorted({run["gpus"] for run in runs})
    return _table(head, [[str(gpus), *(cells.get((gpus, *kind), "") for kind in kinds)] for gpus in numbers])


def validated() -> str:
    """What the model said of runs on this machine, and what they did."""
    head = ["GPUs that sleep", "images/s", "simulated", "deviation", "in the way"]
    return _table(
        head,
        [
            [
                f"{run['gpus']} of {run['images_per_s_per_gpu']:g}/s",
                f"{run['real_images_per_s']:g}",
                f"{run['simulated_images_per_s']:g}",
                f"{100 * run['deviation']:+.0f} %",
                run["bottleneck"],
            ]
            for run in measured.load("pipeline")["validation"]
        ],
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _cell(result: dict[str, Any]) -> str:
    busy = f"{100 * result['busy']:.0f} %"
    return busy if result["bottleneck"] == "GPUs" else f"{busy}, {result['bottleneck']}"


def _output(line: str) -> str:
    result = CliRunner().invoke(plan, shlex.split(line.removeprefix(PROMPT)), catch_exceptions=False)
    return result.output


def main() -> None:
    """Rewrites the page."""
    TARGET.write_text(capacity_page(TARGET.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
