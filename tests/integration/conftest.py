"""What the tests of stores and of index runs share: a Qdrant server, an S3 server and a Ray for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.qdrant_server import QdrantServer
from tests.fixtures.s3_server import S3Server


@pytest.fixture(scope="session")
def qdrant_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantServer]:
    """A real server; tests that use it clear it first."""
    with QdrantServer(tmp_path_factory.mktemp("qdrant")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real server; each test has a bucket of its own."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def local_ray() -> Iterator[str]:
    """A Ray of this session's own; gives its address."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_metrics_report_interval_ms", "1000")
    import ray

    from search_core.own_ray import own_ray

    with own_ray(num_cpus=2, include_dashboard=False, namespace="image-search"):
        yield ray.get_runtime_context().gcs_address
    patch.undo()
