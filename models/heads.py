"""The heads that bring image features and sentence vectors into one space, and the losses that train them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ImageHead(nn.Module):
    """Image features float32 [n, in_dim] to [n, dim]: linear + MLP, written as open_clip's native `mlp` projection.

    open_clip knows one hidden layer of 2 x dim GELU units and no skip. But gelu(z) - gelu(-z) = z, so a pair of units
    carries a linear path: the first `dim // 2` pairs start as one, the other units as an ordinary MLP.
    Standardisation happens in buffers here and is folded into the first layer by `folded`.
    """

    def __init__(self, mean: Tensor, std: Tensor, dim: int, dropout: float) -> None:
        super().__init__()
        self.mean, self.std = nn.Buffer(mean), nn.Buffer(std)
        self.fc1 = nn.Linear(len(mean), 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)
        self.drop_in = nn.Dropout(dropout / 2)
        self.drop = nn.Dropout(dropout)
        self.pairs = dim // 2
        with torch.no_grad():
            p = self.pairs
            self.fc1.weight[p : 2 * p] = -self.fc1.weight[:p]
            self.fc1.bias[: 2 * p] = 0
            self.fc2.weight[:, p : 2 * p] = -self.fc2.weight[:, :p]

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.gelu(self.fc1(self.drop_in((features - self.mean) / self.std)))
        output: Tensor = self.fc2(self.drop(hidden))
        return output

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """The same function on raw features, under the names of open_clip's `head.mlp`."""
        weight = self.fc1.weight / self.std
        return {
            "fc1.weight": weight,
            "fc1.bias": self.fc1.bias - weight @ self.mean,
            "fc2.weight": self.fc2.weight.clone(),
            "fc2.bias": self.fc2.bias.clone(),
        }


class TextHead(nn.Module):
    """Sentence vectors float32 [n, in_dim] to [n, dim]: linear + MLP, used in training only."""

    def __init__(self, in_dim: int, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(in_dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim), nn.Dropout(0.0)
        )

    def forward(self, sentences: Tensor) -> Tensor:
        x = sentences * sentences.shape[1] ** 0.5  # unit variance instead of unit norm
        output: Tensor = self.linear(x) + self.mlp(x)
        return output


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss; images and texts float32 [n, d] (any norm), row i belongs to row i."""
    logits = scale.exp() * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def label_loss(images: Tensor, names: Tensor, shares: Tensor, scale: Tensor) -> Tensor:
    """Cross entropy to the classifier's answers, of the photos whose answer is mostly within the given classes.

    images: float32 [n, d]; names: float32 [c, d]; shares: the classes' shares of each answer [n, c]. A mean over all n.
    """
    within = shares.sum(1, keepdim=True)
    logits = scale.exp() * F.normalize(images, dim=-1) @ F.normalize(names, dim=-1).T
    losses = F.cross_entropy(logits, shares / within.clamp(min=1e-6), reduction="none")
    return (losses * (within[:, 0] > 0.5)).mean()
