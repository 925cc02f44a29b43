"""Recall and median rank of a retrieval from vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

DEPTHS = (1, 5, 10)


def ranks(scores: Tensor, relevant: Tensor) -> Tensor:
    """Rank (from 1) of each query's best relevant item; scores float [q, n], relevant bool [q, n]; int64 [q].

    Items with the same score as the best relevant one count as ranked before it, half of them.
    """
    best = scores.masked_fill(~relevant, float("-inf")).amax(1, keepdim=True)
    above = (scores > best).sum(1)
    level = ((scores == best) & ~relevant).sum(1)
    return 1 + above + level // 2


def summary(found: Tensor) -> dict[str, float]:
    """Recall at 1, 5 and 10 (0 to 1) and median rank from ranks int64 [q]."""
    recalls = {f"recall_at_{depth}": round((found <= depth).double().mean().item(), 4) for depth in DEPTHS}
    return {**recalls, "median_rank": found.double().quantile(0.5).item()}


def both_directions(images: Tensor, texts: Tensor, owners: Sequence[int]) -> dict[str, dict[str, float]]:
    """Figures of text-to-image and image-to-text; images float [n, d], texts float [m, d], owners: photo of each text."""
    scores = F.normalize(texts.float(), dim=-1) @ F.normalize(images.float(), dim=-1).T
    relevant = torch.tensor(owners)[:, None] == torch.arange(len(images))
    return {
        "text_to_image": summary(ranks(scores, relevant)),
        "image_to_text": summary(ranks(scores.T, relevant.T)),
    }
