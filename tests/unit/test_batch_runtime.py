"""A Ray that is to be joined and cannot be; and what is left of errors that cross its processes."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorDiedError, NodeDiedError, RayTaskError

from batch_index.pipeline import own_errors
from batch_index.runtime import ray_runtime
from search_core.errors import RunError, StoreUnavailableError, UsageError
from search_core.settings import IndexSettings
from tests.fixtures.qdrant_server import free_ports


@pytest.mark.parametrize("address", ["auto", "127.0.0.1", ":6379", "ray://127.0.0.1:10001"])
def test_an_address_that_is_none_is_wrong_use(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with (
        pytest.raises(UsageError, match=r"the Ray of RAY_ADDRESS: .* is not HOST:PORT"),
        ray_runtime(None, IndexSettings()),
    ):
        pass


def test_nobody_there_is_found_out_at_once(monkeypatch):
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    line = f"the Ray of RAY_ADDRESS at 127.0.0.1:{port} does not answer"
    with pytest.raises(StoreUnavailableError, match=line), ray_runtime(None, IndexSettings()):
        pass


def test_the_address_of_a_server_comes_first(monkeypatch):
    (port,) = free_ports(1)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with (
        pytest.raises(StoreUnavailableError, match="the server's Ray at"),
        ray_runtime(f"127.0.0.1:{port}", IndexSettings()),
    ):
        pass


def inside_a_task(cause: Exception) -> RayTaskError:
    """The error as another process's task raises it."""
    return RayTaskError("ReadPlanSource", "a traceback", cause)


@pytest.mark.parametrize("lost", [ActorDiedError(), NodeDiedError("gone")])
def test_a_lost_process_is_one_line(lost):
    for error in (lost, inside_a_task(lost)):
        with pytest.raises(RunError, match=r"has ended .*; run the same command again"), own_errors():
            raise error


def test_an_error_of_ours_comes_out_of_its_wrapping():
    with pytest.raises(StoreUnavailableError, match="no answer"), own_errors():
        raise inside_a_task(StoreUnavailableError("no answer"))


def test_what_ray_data_adds_to_its_message_does_not():
    with pytest.raises(StoreUnavailableError, match=r"^no answer$"), own_errors():
        raise inside_a_task(
            StoreUnavailableError("no answer\nFailed to apply UDF transform after 1/1 attempts.")
        )


def test_an_actor_that_cannot_be_made_is_no_lost_process():
    with pytest.raises(ActorDiedError), own_errors():
        raise ActorDiedError(inside_a_task(TypeError("wrong")))
