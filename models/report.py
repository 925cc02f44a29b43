"""What the exported model can do, measured through open_clip itself: `report.json`, and the model card from it."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from string import Template
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from models.cache import cpu_minutes
from models.export import WEIGHTS_FILE
from models.objects import NamedPictures, name_figures, name_ranks
from models.photos import CaptionedPhotos
from models.recall import both_directions
from models.recipe import Recipe

MODELS = Path(__file__).parent
CARD_TEMPLATE = MODELS / "card.md"
IMAGE_BATCH, TEXT_BATCH = 16, 250
WARM_UP = 30


@dataclass(frozen=True)
class Loaded:
    """An exported model as open_clip loads it, its transform and tokenizer, at one precision."""

    model: Any
    transform: Any
    tokenizer: Any
    dtype: torch.dtype

    @classmethod
    def read(cls, folder: Path, dtype: torch.dtype, **preprocess: str) -> Loaded:
        name = f"local-dir:{folder.resolve()}"
        model, _, transform = open_clip.create_model_and_transforms(name, **preprocess)
        model = model.eval().to(dtype).to(memory_format=torch.channels_last)
        return cls(model, transform, open_clip.get_tokenizer(name), dtype)

    @torch.inference_mode()
    def images(self, paths: Sequence[Path]) -> Tensor:
        """float32 [n, dim], L2 norm 1."""
        parts = [paths[start : start + IMAGE_BATCH] for start in range(0, len(paths), IMAGE_BATCH)]
        pixels = (torch.stack([self.transform(_on_white(path)) for path in part]) for part in parts)
        rows = (batch.to(self.dtype).contiguous(memory_format=torch.channels_last) for batch in pixels)
        return F.normalize(torch.cat([self.model.encode_image(row).float() for row in rows]), dim=-1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """float32 [n, dim], L2 norm 1."""
        parts = self.tokenizer(list(texts)).split(TEXT_BATCH)
        return F.normalize(torch.cat([self.model.encode_text(part).float() for part in parts]), dim=-1)

    def recall(self, photos: CaptionedPhotos) -> dict[str, dict[str, float]]:
        """Figures of both directions among these photos."""
        texts, owners = photos.flat_captions()
        return both_directions(self.images(photos.paths), self.texts(texts), owners)

    @torch.inference_mode()
    def text_ms(self, text: str = "a brown dog runs through the grass", repeats: int = 300) -> float:
        """Median time of one text on one thread, tokenizer included, after a warm-up."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        times = []
        for _ in range(WARM_UP + repeats):
            start = time.perf_counter()
            self.model.encode_text(self.tokenizer([text]))
            times.append(time.perf_counter() - start)
        torch.set_num_threads(threads)
        return round(1000 * median(times[WARM_UP:]), 2)


def write_report(
    out: Path, data: Path, samples: Path, training_cpu_minutes: Mapping[str, float | None]
) -> None:
    """Measure the model in `out`, print the figures, and write `report.json` and the card beside its weights."""
    plain = Loaded.read(out, torch.float32)
    half = Loaded.read(out, torch.bfloat16)
    dev = CaptionedPhotos.read(data / "flickr8k/dev.jsonl", data / "flickr8k/images")
    coco = CaptionedPhotos.read(data / "coco-mini/captions.jsonl", data / "coco-mini/images")
    report: dict[str, Any] = {
        "flickr8k_dev": {"float32": plain.recall(dev), "bfloat16": half.recall(dev)},
        "coco_mini": {
            mode: Loaded.read(out, torch.float32, image_resize_mode=mode).recall(coco)
            for mode in ("squash", "shortest", "longest")
        },
        "object_names": _object_names(plain, samples),
        "text_encoding_ms": {"float32": plain.text_ms(), "bfloat16": half.text_ms(), "threads": 1},
        "megabytes": round((out / WEIGHTS_FILE).stat().st_size / 1e6, 2),
        "parameters": sum(p.numel() for p in plain.model.parameters()),
        "training_cpu_minutes": dict(training_cpu_minutes),
        "recipe": asdict(Recipe()),
        "command": "python -m models.train",
        "machine": _machine(),
    }
    text = json.dumps(report, indent=1)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    (out / "README.md").write_text(card(report), encoding="utf-8")
    print(
        json.dumps(
            {**report, "object_names": {**report["object_names"], "names": "(see report.json)"}}, indent=1
        )
    )


def card(report: dict[str, Any]) -> str:
    """The model card, with the report's figures filled into its template."""
    photos, names = report["flickr8k_dev"]["float32"], report["object_names"]
    found, coco = photos["text_to_image"], report["coco_mini"]["squash"]["text_to_image"]
    return Template(CARD_TEMPLATE.read_text(encoding="utf-8")).substitute(
        dev=_percentages(found),
        dev_back=_percentages(photos["image_to_text"]),
        coco=_percentages(coco),
        names=_percentages(names["figures"]["{}"]),
        name_count=names["count"],
        picture_count=names["pictures"],
        megabytes=report["megabytes"],
        millions=round(report["parameters"] / 1e6, 1),
        dim=report["recipe"]["dim"],
        text_ms=report["text_encoding_ms"]["float32"],
        cpu=report["machine"]["cpu"],
    )


def _percentages(figures: dict[str, float]) -> str:
    return " / ".join(f"{100 * figures[f'recall_at_{depth}']:.1f}" for depth in (1, 5, 10))


def _object_names(model: Loaded, samples: Path) -> dict[str, Any]:
    named = NamedPictures.read(samples)
    pictures = model.images(named.paths)
    distinct, _ = named.questions()
    return {
        "count": len(distinct),
        "pictures": len(named.paths),
        "figures": name_figures(pictures, named, model.texts),
        "names": name_ranks(pictures, named, model.texts, samples),
    }


def _on_white(path: Path) -> Image.Image:
    """The picture in RGB, transparent parts white."""
    image = Image.open(path).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = next(
        (line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor()
    )
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a model that is already there: `python -m models.report`."""
    parser = argparse.ArgumentParser(description="Measure the built-in model.")
    parser.add_argument("--data", type=Path, default=MODELS.parent.parent / "shared/data")
    parser.add_argument("--out", type=Path, default=MODELS / "builtin")
    parser.add_argument("--cache", type=Path, default=MODELS / ".cache")
    parser.add_argument("--samples", type=Path, default=MODELS.parent / "samples")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    write_report(options.out, options.data, options.samples, cpu_minutes(options.cache))


if __name__ == "__main__":
    main()
