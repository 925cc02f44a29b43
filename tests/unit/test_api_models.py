"""The models that an encoder replica holds: which are loaded, kept and dropped, and that batches never mix them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from search_core.encoder import load_encoder
from search_core.errors import ModelError, ModelMismatchError
from search_core.model import ModelSpec, resolve_model
from search_core.settings import ModelSettings
from serve_app.held_models import HeldModels, Item, ModelThread, encode_by_model
from serve_app.messages import Encoded

FIRST, SECOND, THIRD, FOURTH = (resolve_model(f"fake/{dim}") for dim in (64, 32, 16, 8))
SETTINGS = ModelSettings(name="fake")


class Loads:
    """Loads models as a replica does, notes each, and keeps those in `gates` waiting."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.broken: dict[str, Exception] = {}

    def __call__(self, spec: ModelSpec) -> ModelThread:
        self.names.append(spec.name)
        if spec.name in self.gates:
            assert self.gates[spec.name].wait(60)
        if spec.name in self.broken:
            raise self.broken[spec.name]
        return ModelThread(spec, SETTINGS, lambda encoder: encoder.encode_texts(["a"]))


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def models(loads: Loads) -> HeldModels:
    return HeldModels(FIRST, loads)


async def encode(models: HeldModels, spec: ModelSpec, text: str = "red") -> Encoded:
    async with models.using(spec) as model:
        return (await model.texts([text]))[0]


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():  # noqa: ASYNC110 - what happens has no event that a test could wait for
            await asyncio.sleep(0)


def held(models: HeldModels) -> set[str]:
    return set(models.status().fingerprints)


async def test_the_first_is_there_at_once_and_others_when_asked(models: HeldModels, loads: Loads) -> None:
    assert loads.names == ["fake/64"]
    for spec in (FIRST, SECOND, FIRST, SECOND):
        encoded = await encode(models, spec)
        assert encoded.fingerprint == spec.fingerprint
        expected = load_encoder(spec, SETTINGS).encode_texts(["red"])[0]
        np.testing.assert_allclose(encoded.vector, expected, atol=1e-6)
    assert loads.names == ["fake/64", "fake/32"]
    assert held(models) == {FIRST.fingerprint, SECOND.fingerprint}
    assert models.status().device == "cpu"


async def test_a_model_is_loaded_once_while_the_others_answer(models: HeldModels, loads: Loads) -> None:
    gate = loads.gates["fake/32"] = threading.Event()
    waiting = [asyncio.create_task(encode(models, SECOND, f"red {n}")) for n in range(5)]
    waiting[0].cancel()
    for _ in range(20):
        assert (await encode(models, FIRST)).fingerprint == FIRST.fingerprint
    waiting[1].cancel()  # whoever goes, the load goes on for the rest
    assert not any(task.done() for task in waiting[2:])
    gate.set()
    assert {one.fingerprint for one in await asyncio.gather(*waiting[2:])} == {SECOND.fingerprint}
    assert loads.names == ["fake/64", "fake/32"]


async def test_a_third_takes_the_place_of_the_one_used_longest_ago(models: HeldModels, loads: Loads) -> None:
    await encode(models, SECOND)
    await encode(models, FIRST)
    await encode(models, THIRD)
    assert held(models) == {FIRST.fingerprint, THIRD.fingerprint}
    await encode(models, SECOND)
    assert held(models) == {THIRD.fingerprint, SECOND.fingerprint}
    assert loads.names == ["fake/64", "fake/32", "fake/16", "fake/32"]


async def test_a_model_in_use_is_dropped_after_its_last_call(models: HeldModels, loads: Loads) -> None:
    await encode(models, SECOND)
    async with models.using(FIRST) as first, models.using(SECOND):
        third = asyncio.create_task(encode(models, THIRD))
        await until(lambda: held(models) == {SECOND.fingerprint})
        back = asyncio.create_task(encode(models, FIRST))  # comes too late for this place: queues for another
        assert (await first.texts(["red"]))[0].fingerprint == FIRST.fingerprint
        assert not third.done()
        assert loads.names == ["fake/64", "fake/32"]
    assert (await third).fingerprint == THIRD.fingerprint
    assert (await back).fingerprint == FIRST.fingerprint
    assert loads.names == ["fake/64", "fake/32", "fake/16", "fake/64"]


@pytest.mark.parametrize("error", [ModelError("model 'fake/32' cannot be loaded"), RuntimeError("secret")])
async def test_a_model_that_cannot_be_loaded_fails_alone(
    models: HeldModels, loads: Loads, error: Exception
) -> None:
    loads.broken["fake/32"] = error
    results = await asyncio.gather(
        *(encode(models, spec) for spec in (SECOND, FIRST, SECOND)), return_exceptions=True
    )
    assert [type(result) for result in results] == [ModelError, Encoded, ModelError]
    assert "secret" not in str(results[0])
    loads.broken.clear()
    assert (await encode(models, SECOND)).fingerprint == SECOND.fingerprint


async def test_a_model_whose_weights_are_gone_or_others_takes_nobodys_place(
    models: HeldModels, loads: Loads, tmp_path: Path
) -> None:
    await encode(models, SECOND)
    gone = ModelSpec(**{**vars(THIRD), "name": f"local-dir:{tmp_path}"})
    with pytest.raises(ModelError, match="must hold"):
        await encode(models, gone)
    changed = ModelSpec(**{**vars(THIRD), "weights_id": "other weights"})
    with pytest.raises(ModelMismatchError, match="index again with --rebuild"):
        await encode(models, changed)
    assert held(models) == {FIRST.fingerprint, SECOND.fingerprint}
    assert loads.names == ["fake/64", "fake/32"]


async def test_a_batch_never_mixes_models(models: HeldModels) -> None:
    calls: list[tuple[str, list[str]]] = []

    async def noted(model: ModelThread, texts: Sequence[str]) -> list[Encoded]:
        calls.append((model.spec.name, list(texts)))
        if "bad" in texts:
            raise ValueError("bad")
        return await model.texts(texts)

    async with models.using(FIRST) as first, models.using(SECOND) as second:
        words = [(first, "red"), (second, "blue"), (first, "green"), (second, "red"), (first, "red")]
        items = [Item(model, text) for model, text in words]
        answers = await encode_by_model(items, noted)
        assert sorted(calls) == [("fake/32", ["blue", "red"]), ("fake/64", ["red", "green", "red"])]
        for (model, text), answer in zip(words, answers, strict=True):
            assert isinstance(answer, Encoded)
            assert answer.fingerprint == model.spec.fingerprint
            np.testing.assert_allclose(answer.vector, (await model.texts([text]))[0].vector, atol=1e-6)
        mixed = await encode_by_model([*items, Item(second, "bad")], noted)
    assert [type(answer) for answer in mixed] == [
        Encoded,
        ValueError,
        Encoded,
        ValueError,
        Encoded,
        ValueError,
    ]


def test_a_replica_whose_first_model_cannot_be_loaded_does_not_start(loads: Loads) -> None:
    loads.broken["fake/8"] = ModelError("no weights")
    with pytest.raises(ModelError, match="no weights"):
        HeldModels(FOURTH, loads)
