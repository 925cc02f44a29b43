"""The trained parts as one model in open_clip's `local-dir` format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CustomTextCLIP
from open_clip.transformer import TextTransformer
from safetensors.torch import save_file
from torch import Tensor

from models.features import BACKBONE, IMAGE_SIZE, MEAN, STD, load_backbone
from models.heads import ImageHead
from models.text_tower import TEXT_CONFIG

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
RESIZE_MODE = "squash"


def model_config(dim: int) -> dict[str, Any]:
    """open_clip's `model_cfg`: a timm image tower with the `mlp` projection, and its own text tower."""
    return {
        "embed_dim": dim,
        "custom_text": True,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "timm_model_name": BACKBONE,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "mlp",
            "timm_proj_bias": True,
        },
        "text_cfg": TEXT_CONFIG,
    }


def preprocess_config() -> dict[str, Any]:
    """open_clip's `preprocess_cfg`; training photos came squashed to a square, so pictures are squashed too."""
    return {
        "size": [IMAGE_SIZE, IMAGE_SIZE],
        "mode": "RGB",
        "mean": [MEAN] * 3,
        "std": [STD] * 3,
        "interpolation": "bicubic",
        "resize_mode": RESIZE_MODE,
    }


def weights(head: ImageHead, tower: TextTransformer, scale: Tensor) -> dict[str, Tensor]:
    """Every tensor of the model under open_clip's names, float16 (counters stay int64)."""
    backbone = load_backbone().state_dict()
    tensors = {
        **{f"visual.trunk.{name}": t for name, t in backbone.items() if not name.startswith("classifier.")},
        **{f"visual.head.mlp.{name}": t for name, t in head.folded().items()},
        **{f"text.{name}": t for name, t in tower.state_dict().items()},
        "logit_scale": scale,
    }
    halved = {name: t.detach().half() if t.is_floating_point() else t for name, t in tensors.items()}
    broken = [name for name, t in halved.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if broken:
        raise ValueError(f"does not fit into float16: {broken}")
    return {name: t.contiguous() for name, t in halved.items()}


def export(out: Path, head: ImageHead, tower: TextTransformer, scale: Tensor, dim: int) -> None:
    """Write configuration and weights to `out`; the weights must fit the model exactly."""
    config, tensors = model_config(dim), weights(head, tower, scale)
    CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"}).load_state_dict(
        tensors
    )
    out.mkdir(parents=True, exist_ok=True)
    whole = {"model_cfg": config, "preprocess_cfg": preprocess_config()}
    (out / CONFIG_FILE).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, out / WEIGHTS_FILE, metadata={"format": "pt"})
    (out / WEIGHTS_FILE).chmod(0o644)  # safetensors writes it for its owner only
