"""Our path to a vector is open_clip's own: the same pixels, the same numbers, the same vectors."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from batch_index.embed import EmbedAndWrite
from batch_index.plan_file import Task
from batch_index.prepare import Prepare
from search_core.clip import OpenClipEncoder, choose_precision
from search_core.edge import EdgeStore
from search_core.encoder import Encoder, load_encoder
from search_core.errors import ModelError
from search_core.model import Preprocess, resolve_model
from search_core.pictures import file_uri
from search_core.points import Point
from search_core.preprocess import pixels_of, to_pixels
from search_core.settings import ImageSettings, ModelSettings, SourceSettings, StoreSettings
from tests.fixtures import tiny_clip
from tests.fixtures.one_shard import OneShard
from tests.fixtures.pictures import encoded, photo, plain, put

LIMITS = ImageSettings()
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [
    (501, 375),
    (375, 501),
    (333, 217),
    (225, 223),
    (224, 224),
    (640, 101),
    (97, 640),
    (31, 17),
    (1023, 767),
]
FP32 = ModelSettings(precision="fp32", device="cpu")
TEXTS = ["a red square", "two dogs run over wet grass, seen from above", "", "ein Hund", "x " * 500]
FILES = [
    encoded(photo(501, 375, 1), "PNG"),
    encoded(photo(217, 333, 2), "JPEG", quality=90),
    encoded(photo(64, 64, 3), "WEBP"),
    encoded(photo(300, 60, 4).convert("L"), "PNG"),
    plain("red"),
]


def cosines(ours: np.ndarray, theirs: torch.Tensor) -> np.ndarray:
    unit = torch.nn.functional.normalize(theirs.float(), dim=-1).numpy()
    return (ours * unit).sum(axis=1)


def pixels(encoder: Encoder, files: list[bytes]) -> np.ndarray:
    return np.stack([pixels_of(data, encoder.spec.preprocess, LIMITS) for data in files])


# --- pixels ---


@pytest.mark.parametrize("target", [(224, 224), (64, 64), (240, 320), (320, 96)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_our_pixels_are_those_of_open_clip(mode, interpolation, target):
    theirs = image_transform(
        target, False, MEAN, STD, resize_mode=mode, interpolation=interpolation, fill_color=114
    )
    ours = Preprocess(target, MEAN, STD, interpolation, mode, 114)
    for number, size in enumerate(SIZES):
        image = photo(*size, number)
        mine = to_pixels(image, ours)
        wanted = theirs(image)
        normal = (
            torch.from_numpy(mine.copy()).permute(2, 0, 1) / 255 - torch.tensor(MEAN).view(3, 1, 1)
        ) / torch.tensor(STD).view(3, 1, 1)
        assert wanted.shape == normal.shape
        # exactly the same pixels: one step of 255 would be 0.014 here
        torch.testing.assert_close(normal, wanted, rtol=0, atol=1e-6, msg=f"{size}")


def test_every_preprocessing_that_open_clip_publishes_is_one_of_ours():
    """No pretrained model asks for something that was not compared above."""
    seen: dict[str, set[Any]] = {"resize_mode": set(), "interpolation": set()}
    for architecture, tag in open_clip.list_pretrained():
        from open_clip.pretrained import get_pretrained_cfg

        for key, values in seen.items():
            values.add(get_pretrained_cfg(architecture, tag).get(key))
    assert seen["resize_mode"] <= {None, "shortest", "longest", "squash"}
    assert seen["interpolation"] <= {None, "bicubic", "bilinear"}


@pytest.mark.parametrize(
    "name", ["ViT-B-32/openai", "ViT-B-16-SigLIP/webli", "ViT-L-14-336/openai", "RN50/cc12m"]
)
def test_the_preprocessing_of_a_published_model_is_what_open_clip_would_use(name):
    """Resolved by name alone, without weights."""
    architecture, _, tag = name.partition("/")
    from open_clip.pretrained import get_pretrained_cfg
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    config = get_pretrained_cfg(architecture, tag)
    size = open_clip.get_model_config(architecture)["vision_cfg"].get("image_size", 224)
    known = {key: value for key, value in config.items() if key in PreprocessCfg.__dataclass_fields__}
    theirs = merge_preprocess_dict({**PreprocessCfg().__dict__, "size": size}, known)
    ours = resolve_model(name).preprocess
    wanted = theirs["size"] if isinstance(theirs["size"], (tuple, list)) else (theirs["size"],) * 2
    assert ours.size == tuple(wanted)
    assert (ours.mean, ours.std) == (tuple(theirs["mean"]), tuple(theirs["std"]))
    assert (ours.interpolation, ours.resize_mode) == (theirs["interpolation"], theirs["resize_mode"])


# --- vectors, of a model of a few weights ---


@pytest.fixture(scope="module", params=["shortest", "squash", "longest"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_clip.make(tmp_path_factory.mktemp("tiny") / "model", resize_mode=request.param)


@pytest.fixture(scope="module")
def encoder(tiny: str) -> Encoder:
    return load_encoder(resolve_model(tiny), FP32)


def test_picture_vectors_are_those_of_open_clip(tiny, encoder):
    model, _, transform = open_clip.create_model_and_transforms(tiny)
    model.eval()
    theirs = torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in FILES])
    with torch.inference_mode():
        wanted = model.encode_image(theirs)
    assert cosines(encoder.encode_pixels(pixels(encoder, FILES)), wanted).min() >= 0.99999


def test_text_vectors_are_those_of_open_clip(tiny, encoder):
    model, _, _ = open_clip.create_model_and_transforms(tiny)
    model.eval()
    with torch.inference_mode():
        wanted = model.encode_text(open_clip.get_tokenizer(tiny)(TEXTS))
    assert cosines(encoder.encode_texts(TEXTS), wanted).min() >= 0.99999


def test_vectors_are_float32_of_length_1(encoder):
    for vectors in (encoder.encode_texts(TEXTS), encoder.encode_pixels(pixels(encoder, FILES))):
        assert vectors.dtype == np.float32
        assert vectors.shape == (5, tiny_clip.DIM)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (
        encoder.encode_texts([]).shape
        == encoder.encode_pixels(np.zeros((0, 64, 64, 3), np.uint8)).shape
        == (0, 32)
    )


def test_a_vector_does_not_depend_on_its_batch(encoder):
    together = encoder.encode_pixels(pixels(encoder, FILES))
    alone = np.concatenate([encoder.encode_pixels(pixels(encoder, [data])) for data in FILES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    texts = encoder.encode_texts(TEXTS)
    np.testing.assert_allclose(
        texts, np.concatenate([encoder.encode_texts([text]) for text in TEXTS]), atol=1e-5
    )


def test_read_only_arrays_are_taken_without_a_warning(encoder):
    given = pixels(encoder, FILES)
    given.flags.writeable = False
    assert encoder.encode_pixels(given).shape == (5, tiny_clip.DIM)


def test_batch_and_query_give_the_same_vectors(encoder, tmp_path):
    """The same bytes through the stages of the pipeline and through the path of a query; large JPEGs too."""
    files = [*FILES, encoded(photo(1400, 900, 8), "JPEG", quality=92)]
    paths = [put(tmp_path, f"{number}.img", data) for number, data in enumerate(files)]
    told = json.dumps({"captions": [], "columns": {}})
    coordinator = OneShard([Task(file_uri(path), "v", 0, "", told, "", "added") for path in paths])
    store = EdgeStore(StoreSettings(path=tmp_path / "store"))

    async def index() -> list[Point]:
        await store.create("c", encoder.spec)
        embed = EmbedAndWrite(coordinator, encoder.spec, FP32, lambda: store, "c", to_embed=True, texts=())
        for table in Prepare(coordinator, encoder.spec.preprocess, SourceSettings(), LIMITS, 4)(0):
            await embed(table)
        points, _ = await store.scroll("c", with_vectors=True)
        await store.close()
        return points

    found = {point.payload["uri"]: point.vector for point in asyncio.run(index())}
    vectors = np.stack([found[file_uri(path)] for path in paths])
    np.testing.assert_allclose(vectors, encoder.encode_pixels(pixels(encoder, files)), atol=1e-5)
    for vector, data in zip(vectors, files, strict=True):
        np.testing.assert_allclose(vector, encoder.encode_pixels(pixels(encoder, [data]))[0], atol=1e-5)


def test_16_bits_stay_near_32(tiny, encoder):
    bf16 = load_encoder(resolve_model(tiny), ModelSettings(precision="bf16", device="cpu"))
    assert bf16.precision == "bf16"
    given = pixels(encoder, FILES)
    assert (bf16.encode_pixels(given) * encoder.encode_pixels(given)).sum(axis=1).min() > 0.998
    assert (bf16.encode_texts(TEXTS) * encoder.encode_texts(TEXTS)).sum(axis=1).min() > 0.998
    assert bf16.encode_texts(["a"]).dtype == np.float32


def test_the_machine_chooses_what_it_computes_natively(tiny):
    chosen = load_encoder(resolve_model(tiny), ModelSettings())
    assert (chosen.device, chosen.precision) == (chosen.device, choose_precision("auto", chosen.device))
    assert choose_precision("fp32", "cuda") == "fp32"
    assert choose_precision("auto", "mps") == "fp16"
    assert choose_precision("auto", "cpu") in {"bf16", "fp32"}


# --- models that cannot be loaded ---


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    tiny_clip.make(tmp_path / "model")
    return tmp_path / "model"


def refused(name: str, says: str, **settings: Any) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load_encoder(resolve_model(name), ModelSettings(**settings))
    assert "\n" not in str(caught.value)


def test_damaged_weights_are_one_line(broken):
    whole = (broken / "open_clip_model.safetensors").read_bytes()
    for data in (b"", b"no weights at all", whole[: len(whole) // 2]):
        (broken / "open_clip_model.safetensors").write_bytes(data)
        refused(f"local-dir:{broken}", "cannot be loaded")


def test_weights_of_another_shape_are_one_line(broken):
    config = json.loads((broken / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 48
    (broken / "open_clip_config.json").write_text(json.dumps(config))
    refused(f"local-dir:{broken}", "cannot be loaded")


def test_a_device_that_is_not_there_is_one_line(broken):
    refused(f"local-dir:{broken}", "device 'cuda:77' is not usable", device="cuda:77")
    refused(f"local-dir:{broken}", "device 'abacus' is not usable", device="abacus")


def test_a_model_that_was_taken_away_is_one_line(broken):
    spec = resolve_model(f"local-dir:{broken}")
    shutil.rmtree(broken)
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_encoder(spec, FP32)
    assert "\n" not in str(caught.value)


# --- a real architecture, by name, from a file of weights ---


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of ViT-B-32 in 16 bits, in both formats; 600 MB, deleted afterwards."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("vit")
    with torch.random.fork_rng():
        torch.manual_seed(tiny_clip.SEED)
        model = open_clip.create_model("ViT-B-32", precision="fp16")
    state = model.state_dict()
    torch.save(state, folder / "w.pt")
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "w.safetensors")
    yield folder
    shutil.rmtree(folder)


def test_a_model_by_name_takes_its_weights_from_a_file(weights, tmp_path):
    names = [f"ViT-B-32/{weights / file}" for file in ("w.pt", "w.safetensors")]
    specs = [resolve_model(name) for name in names]
    assert [spec.dim for spec in specs] == [512, 512]
    assert specs[0].fingerprint != specs[1].fingerprint  # another file may always be other weights
    (tmp_path / "elsewhere.pt").symlink_to(weights / "w.pt")
    assert resolve_model(f"ViT-B-32/{tmp_path / 'elsewhere.pt'}").fingerprint == specs[0].fingerprint
    model, _, transform = open_clip.create_model_and_transforms("ViT-B-32", pretrained=str(weights / "w.pt"))
    model.eval()
    theirs = torch.stack([transform(Image.open(io.BytesIO(data)).convert("RGB")) for data in FILES[:3]])
    with torch.inference_mode():
        images = model.encode_image(theirs)
        texts = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS))
    del model
    for spec in specs:
        encoder = load_encoder(spec, FP32)
        assert isinstance(encoder, OpenClipEncoder)
        assert cosines(encoder.encode_pixels(pixels(encoder, FILES[:3])), images).min() >= 0.9999
        assert cosines(encoder.encode_texts(TEXTS), texts).min() >= 0.9999
        assert encoder.encode_texts(["a"]).shape == (1, 512)
        del encoder
