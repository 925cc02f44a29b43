"""Model specs: what a name stands for, and a fingerprint that changes exactly when vectors do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from search_core import model
from search_core.errors import ModelError, ModelMismatchError
from search_core.model import ModelSpec, Preprocess, present_model, resolve_model
from search_core.store import Collection, belongs_to, new_collection_name, new_metadata

CONFIG = {
    "model_cfg": {"embed_dim": 96, "vision_cfg": {"image_size": 160}, "text_cfg": {}},
    "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash"},
}


def folder(path: Path, config: object = CONFIG, weights: bytes | None = b"weights") -> str:
    path.mkdir(exist_ok=True)
    (path / "open_clip_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if weights is not None:
        (path / "open_clip_model.safetensors").write_bytes(weights)
    return f"local-dir:{path}"


def changed(**preprocess) -> dict:
    return {**CONFIG, "preprocess_cfg": {**CONFIG["preprocess_cfg"], **preprocess}}


def test_a_folder_says_what_its_model_is(tmp_path):
    spec = resolve_model(folder(tmp_path / "m"))
    assert spec.dim == 96
    assert spec.architecture == f"local-dir:{tmp_path / 'm'}"
    assert spec.pretrained is None
    assert spec.preprocess == Preprocess((160, 160), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", "squash", 0)


def test_a_path_means_the_same_in_every_working_folder(tmp_path, monkeypatch):
    folder(tmp_path / "m")
    (tmp_path / "w.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    first, second = resolve_model("local-dir:m"), resolve_model("ViT-B-32/w.pt")
    assert (first.name, second.name) == (f"local-dir:{tmp_path / 'm'}", f"ViT-B-32/{tmp_path / 'w.pt'}")
    monkeypatch.chdir("/")
    assert [present_model(spec) for spec in (first, second)] == [first, second]


def test_what_a_folder_does_not_say_is_what_open_clip_takes(tmp_path):
    from open_clip.transform import PreprocessCfg

    spec = resolve_model(folder(tmp_path / "m", {"model_cfg": {"embed_dim": 8, "vision_cfg": {}}}))
    theirs = PreprocessCfg()
    assert spec.preprocess == Preprocess(
        (224, 224),
        tuple(theirs.mean),
        tuple(theirs.std),
        theirs.interpolation,
        theirs.resize_mode,
        theirs.fill_color,
    )


def test_the_fingerprint_does_not_depend_on_the_path(tmp_path, monkeypatch):
    first, second = resolve_model(folder(tmp_path / "a")), resolve_model(folder(tmp_path / "b"))
    assert first.architecture != second.architecture
    assert first.fingerprint == second.fingerprint
    monkeypatch.setattr(model, "BUILTIN_PATH", tmp_path / "b")
    assert resolve_model("builtin").fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        (CONFIG, b"other weights"),
        ({**CONFIG, "model_cfg": {**CONFIG["model_cfg"], "embed_dim": 97}}, b"weights"),
        ({**CONFIG, "model_cfg": {**CONFIG["model_cfg"], "text_cfg": {"layers": 3}}}, b"weights"),
        (changed(mean=[0.1, 0.2, 0.31]), b"weights"),
        (changed(std=[0.4, 0.5, 0.61]), b"weights"),
        (changed(resize_mode="shortest"), b"weights"),
        (changed(interpolation="bilinear"), b"weights"),
        (changed(size=224), b"weights"),
        (changed(fill_color=9), b"weights"),
    ],
)
def test_the_fingerprint_changes_with_whatever_changes_vectors(tmp_path, config, weights):
    before = resolve_model(folder(tmp_path / "a")).fingerprint
    assert resolve_model(folder(tmp_path / "b", config, weights)).fingerprint != before


def test_the_fingerprint_changes_with_the_pipeline(monkeypatch):
    before = resolve_model("fake").fingerprint
    monkeypatch.setattr(model, "PIPELINE_VERSION", model.PIPELINE_VERSION + 1)
    assert resolve_model("fake").fingerprint != before


def test_the_fingerprint_is_the_same_at_any_time():
    """Collections of today must be readable tomorrow: change this only together with PIPELINE_VERSION."""
    assert resolve_model("fake").fingerprint == "ffcd9f749f82"


def test_fingerprints_tell_models_apart():
    names = ["fake", "fake/8", "fake/512", "ViT-B-32/openai", "ViT-B-32/laion2b_s34b_b79k", "ViT-B-16/openai"]
    assert len({resolve_model(name).fingerprint for name in names}) == len(names)
    assert all(len(resolve_model(name).fingerprint) == 12 for name in names)


@pytest.mark.parametrize(
    ("name", "dim", "size"),
    [
        ("ViT-B-32/openai", 512, (224, 224)),
        ("ViT-L-14-336/openai", 768, (336, 336)),
        ("ViT-B-16-SigLIP/webli", 768, (224, 224)),
    ],
)
def test_names_of_open_clip_are_resolved_without_any_weights(name, dim, size):
    spec = resolve_model(name)
    assert (spec.dim, spec.preprocess.size) == (dim, size)
    assert spec.weights_id == f"open_clip:{name.partition('/')[2]}"


def test_preprocessing_comes_with_the_weights():
    assert resolve_model("ViT-B-16-SigLIP/webli").preprocess.resize_mode == "squash"
    assert resolve_model("ViT-B-16-SigLIP/webli").preprocess.mean == (0.5, 0.5, 0.5)
    assert resolve_model("ViT-B-32/openai").preprocess.resize_mode == "shortest"


def test_a_file_of_weights_is_known_by_its_content(tmp_path):
    first, second = tmp_path / "one.pt", tmp_path / "two.pt"
    first.write_bytes(b"the same")
    second.write_bytes(b"the same")
    a, b = (resolve_model(f"ViT-B-32/{path}") for path in (first, second))
    assert a.pretrained == str(first)
    assert (a.dim, a.fingerprint) == (512, b.fingerprint)
    second.write_bytes(b"another")
    assert resolve_model(f"ViT-B-32/{second}").fingerprint != a.fingerprint


def test_a_quickgelu_architecture_is_another_model():
    assert (
        resolve_model("ViT-B-32-quickgelu/openai").fingerprint != resolve_model("ViT-B-32/openai").fingerprint
    )


@pytest.mark.parametrize("name", ["fake", "fake/512", "ViT-B-32/openai"])
def test_a_spec_survives_json(name):
    spec = resolve_model(name)
    back = ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert back == spec
    assert back.fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet", "unknown model 'resnet': take builtin, ARCH/PRETRAINED"),
        ("", "unknown model ''"),
        ("ViT-B-32/", "unknown model"),
        ("/openai", "unknown model"),
        ("ViT-B32/openai", "no architecture 'ViT-B32'; did you mean .*ViT-B-32"),
        ("ViT-B-32/opeani", "'opeani' is no file, and no weights of ViT-B-32 .*openai"),
        ("ViT-B-32/./none.pt", "is no file"),
        ("fake/7", "from 8 to 4096"),
        ("fake/5000", "from 8 to 4096"),
        ("fake/x", "from 8 to 4096"),
        ("fake/", "from 8 to 4096"),
        ("local-dir:/nowhere", "/nowhere must hold open_clip_config.json and open_clip_model.safetensors"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(name, says):
    with pytest.raises(ModelError, match=says) as caught:
        resolve_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "weights", "says"),
    [
        (CONFIG, None, "must hold"),
        ("no json", b"w", "cannot be read"),
        ([1], b"w", "not a JSON object"),
        ({}, b"w", "not open_clip's"),
        ({"model_cfg": {"vision_cfg": {}}}, b"w", "not open_clip's"),
        ({"model_cfg": {"embed_dim": "many", "vision_cfg": {}}}, b"w", "not open_clip's"),
        (changed(mean=[0.1]), b"w", "not open_clip's"),
        (changed(size=[1]), b"w", "not open_clip's"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path, config, weights, says):
    with pytest.raises(ModelError, match=says) as caught:
        resolve_model(folder(tmp_path / "m", config, weights))
    assert "\n" not in str(caught.value)


def test_a_collection_refuses_another_model():
    spec, other = resolve_model("fake"), resolve_model("fake/128")
    collection = Collection("images__x__1", 3, new_metadata(spec))
    assert collection.state == "building"
    collection.require(spec)
    collection.require(dataclasses.replace(spec, name="by another name"))
    with pytest.raises(
        ModelMismatchError, match=r"made by model fake .*not by fake/128 .*--model fake, or --rebuild"
    ):
        collection.require(other)
    another = dataclasses.replace(other, name="fake")
    with pytest.raises(ModelMismatchError) as caught:
        collection.require(another)
    assert str(caught.value) == (
        f"collection images__x__1 was made by another fake ({spec.fingerprint}) than the present one "
        f"({another.fingerprint}): index again with --rebuild"
    )


def test_collection_names_sort_by_time_and_say_whose_they_are():
    spec = resolve_model("fake")
    names = [new_collection_name("images", spec, now) for now in (1.0, 1.25, 1.5, 2.0, 1e9)]
    assert names == sorted(names)
    assert len(set(names)) == 5
    assert names[0] == f"images__{spec.fingerprint}__19700101T000001000"
    assert belongs_to("images", names[0])
    assert not belongs_to("image", names[0])
    assert not belongs_to("images", "images")
    assert belongs_to("my__images", new_collection_name("my__images", spec))
