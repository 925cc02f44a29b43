"""Model specs: which encoder made a vector, known without loading the encoder.

A spec's fingerprint is stamped on each collection; writer and server refuse to mix two of them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search_core.errors import ModelError, ModelMismatchError

BUILTIN_PATH = Path(__file__).resolve().parent.parent / "models" / "builtin"
CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FAKE_DIM = 64

PIPELINE_VERSION = 1
"""Counts changes to decoding or preprocessing that change vectors; part of every fingerprint."""


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes model input, in open_clip's terms. `mean` and `std` are of pixels in 0..1."""

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    fill_color: int = 0


@dataclass(frozen=True)
class ModelSpec:
    """One encoder: what to load, and what its vectors are (float32 [dim], L2 norm 1, compared by cosine)."""

    name: str
    """As the user names it, but with whole paths: builtin, ViT-B-32/openai, hf-hub:org/name, local-dir:/path, fake/512."""
    architecture: str
    """What open_clip is asked for."""
    pretrained: str | None
    """open_clip's tag or a weights file; None where `architecture` already names both."""
    weights_id: str
    """A content hash of local weights, or the published name of remote ones."""
    dim: int
    preprocess: Preprocess

    @property
    def fingerprint(self) -> str:
        """12 hex digits that differ whenever vectors cannot be compared. A path is no part of it."""
        local = self.weights_id.startswith("sha256:")
        identity: dict[str, Any] = {
            "architecture": "local-dir" if local and self.pretrained is None else self.architecture,
            "weights": self.weights_id,
            "dim": self.dim,
            "preprocess": asdict(self.preprocess),
            "pipeline": PIPELINE_VERSION,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, for a collection's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelSpec:
        """The inverse of `to_dict`."""
        raw = dict(values["preprocess"])
        for key in ("size", "mean", "std"):
            raw[key] = tuple(raw[key])
        return cls(**{**values, "preprocess": Preprocess(**raw)})


def resolve_model(name: str) -> ModelSpec:
    """The spec that `name` stands for; reads configuration and hashes local weights, loads no weights.

    Raises:
        ModelError: the name is unknown, or its files are missing or unreadable.
    """
    if name == "builtin":
        return _local_dir_spec(name, BUILTIN_PATH)
    if name == "fake" or name.startswith("fake/"):
        return _fake_spec(name)
    if name.startswith("local-dir:"):
        path = Path(name.removeprefix("local-dir:")).expanduser().resolve()
        return _local_dir_spec(f"local-dir:{path}", path)
    if name.startswith("hf-hub:"):
        return _hf_hub_spec(name)
    architecture, slash, pretrained = name.partition("/")
    if not slash or not pretrained or not architecture:
        raise ModelError(
            f"unknown model {name!r}: take builtin, ARCH/PRETRAINED (such as ViT-B-32/openai), "
            "ARCH/path-to-weights, hf-hub:org/name or local-dir:path"
        )
    return _open_clip_spec(name, architecture, pretrained)


def present_model(stamp: ModelSpec) -> ModelSpec:
    """The model that a collection is stamped with, looked up by its name again: its files may have changed since.

    Raises:
        ModelError: as `resolve_model`.
        ModelMismatchError: the model of that name is another one now.
    """
    spec = resolve_model(stamp.name)
    if spec.fingerprint != stamp.fingerprint:
        raise another_version("the collection", stamp.name, stamp.fingerprint, spec)
    return spec


def another_version(collection: str, name: str, fingerprint: str, spec: ModelSpec) -> ModelMismatchError:
    """What to say of a collection that was made by another model than `name` stands for now."""
    return ModelMismatchError(
        f"{collection} was made by another {name} ({fingerprint}) than the present one "
        f"({spec.fingerprint}): index again with --rebuild"
    )


def _fake_spec(name: str) -> ModelSpec:
    _, slash, dim = name.partition("/")
    if slash and not (dim.isdigit() and 8 <= int(dim) <= 4096):
        raise ModelError(f"unknown model {name!r}: fake/DIM takes a dimension from 8 to 4096")
    preprocess = Preprocess((32, 32), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bilinear", "squash")
    return ModelSpec(name, "fake", None, "fake-1", int(dim) if slash else FAKE_DIM, preprocess)


def _local_dir_spec(name: str, path: Path) -> ModelSpec:
    weights = next((path / file for file in WEIGHTS_NAMES if (path / file).is_file()), None)
    if not (path / CONFIG_NAME).is_file() or weights is None:
        raise ModelError(f"model {name!r}: {path} must hold {CONFIG_NAME} and {WEIGHTS_NAMES[0]}")
    config = _read_json(name, path / CONFIG_NAME)
    identity = _file_hash(weights) + hashlib.sha256((path / CONFIG_NAME).read_bytes()).hexdigest()[:16]
    return _configured_spec(name, f"local-dir:{path}", None, f"sha256:{identity}", config)


def _hf_hub_spec(name: str) -> ModelSpec:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.removeprefix("hf-hub:").partition("@")
    try:
        config_file = hf_hub_download(repository, CONFIG_NAME, revision=revision or None)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"model {name!r} cannot be fetched: {str(error).splitlines()[0]}") from None
    return _configured_spec(name, name, None, name, _read_json(name, Path(config_file)))


def _configured_spec(
    name: str, architecture: str, pretrained: str | None, weights_id: str, config: dict[str, Any]
) -> ModelSpec:
    """A spec from open_clip's own configuration file format."""
    try:
        model_cfg, given = config["model_cfg"], config.get("preprocess_cfg", {})
        size = given.get("size") or model_cfg["vision_cfg"].get("image_size", 224)
        return ModelSpec(
            name, architecture, pretrained, weights_id, int(model_cfg["embed_dim"]), _preprocess(size, given)
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"model {name!r}: its {CONFIG_NAME} is not open_clip's ({error!r})") from None


def _open_clip_spec(name: str, architecture: str, pretrained: str) -> ModelSpec:
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    config = open_clip.get_model_config(architecture)
    if config is None:
        near = difflib.get_close_matches(architecture, open_clip.list_models(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ModelError(f"unknown model {name!r}: open_clip has no architecture {architecture!r}{hint}")
    size = config["vision_cfg"].get("image_size", 224)
    dim = int(config["embed_dim"])
    file = Path(pretrained).expanduser().resolve()
    if file.is_file():
        weights_id = f"sha256:{_file_hash(file)}"
        found = f"{architecture}/{file}"
        return ModelSpec(found, architecture, str(file), weights_id, dim, _preprocess(size, {}))
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    tagged = get_pretrained_cfg(architecture, pretrained)
    if not tagged:
        known = ", ".join(tags) if tags else "none"
        raise ModelError(
            f"unknown model {name!r}: {pretrained!r} is no file, and no weights of {architecture} (known: {known})"
        )
    return ModelSpec(
        name,
        architecture,
        pretrained,
        f"open_clip:{pretrained}",
        dim,
        _preprocess(tagged.get("size", size), tagged),
    )


def _preprocess(size: int | list[int] | tuple[int, int], given: dict[str, Any]) -> Preprocess:
    """Fills what is not given with open_clip's defaults (`open_clip.transform.PreprocessCfg`)."""
    height, width = (size, size) if isinstance(size, int) else (size[0], size[1])
    return Preprocess(
        size=(height, width),
        mean=_triple(given.get("mean") or (0.48145466, 0.4578275, 0.40821073)),
        std=_triple(given.get("std") or (0.26862954, 0.26130258, 0.27577711)),
        interpolation=given.get("interpolation") or "bicubic",
        resize_mode=given.get("resize_mode") or "shortest",
        fill_color=given.get("fill_color") or 0,
    )


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _read_json(name: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name!r}: {path} cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise ModelError(f"model {name!r}: {path} is not a JSON object")
    return value


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
