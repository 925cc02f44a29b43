"""How many pictures a second a GPU embeds with ViT-B/32: assumptions, none of them measured by this project."""

from __future__ import annotations

from dataclasses import dataclass

GFLOP_A_PICTURE = 8.82
"""ViT-B/32 at 224 pixels: 4.41 thousand million multiplications with additions (timm's table, see below)."""
ACHIEVED = 0.25
"""Of a GPU's peak; the RTX 3090 of timm's table achieves 0.63 of its own, at batch 1024 and with nothing around it."""


CPU = "cpu"


@dataclass(frozen=True)
class Pace:
    """Pictures a second of one GPU (or of two cores), and where the figure is from."""

    images_per_s: float
    source: str


def _by_peak(teraflops: float) -> Pace:
    pace = 1000 * teraflops * ACHIEVED / GFLOP_A_PICTURE
    return Pace(
        float(round(pace, -2)),
        f"assumed: {ACHIEVED:.0%} of its data sheet's {teraflops:g} TFLOPS (dense, 16 bits) at "
        f"{GFLOP_A_PICTURE} GFLOP a picture",
    )


PACES = {
    "t4": _by_peak(65),
    "l4": _by_peak(121),
    "a10": _by_peak(125),
    "a100": _by_peak(312),
    "h100": _by_peak(989),
    "rtx3080": Pace(1500, "as clip-retrieval's README has it: `1500 sample/s on a 3080`, a whole pipeline"),
    "rtx3090": Pace(
        5090,
        "pytorch-image-models' table of its own benchmark (results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv, "
        "vit_base_patch32_clip_224), the model alone",
    ),
    CPU: Pace(
        131, "2 cores of an AMD EPYC with the built-in model, not ViT-B/32: `python -m benchmarks.encoder`"
    ),
}
"""By the name that `image-search plan --gpu` takes."""
