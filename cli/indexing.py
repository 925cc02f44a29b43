"""`image-search index`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from batch_index.job import IndexRequest, run_index
from batch_index.report import IndexReport
from cli.gate import judge
from search_core.settings import Settings


def run(
    settings: Settings,
    sources: Sequence[str],
    *,
    captions: Path | None = None,
    rebuild: bool = False,
    delete_missing: bool = False,
    retry_quarantined: bool = False,
    dry_run: bool = False,
    within_server: bool = False,
) -> IndexReport:
    """Runs one index job in this process."""
    request = IndexRequest(
        sources, captions, rebuild, delete_missing, dry_run, retry_quarantined, within_server, judge(settings)
    )
    return asyncio.run(run_index(request, settings))
