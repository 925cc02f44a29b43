"""What the frozen network's own classifier knows: 1,000 class names, and features that stand for each class.

The captions name few kinds of things; the classifier separates a thousand. Its weights are turned into features here
(no ImageNet picture is needed): for classes that share a covariance S, the weights W are S^-1 times the class means,
so S W gives the direction in which a photo of the class differs from the average photo.
"""

from __future__ import annotations

import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn

from models.texts import TEMPLATES, in_template

CLASSES = 1000


def class_names() -> list[list[str]]:
    """The names of each class, most usual first: "goldfish", "Carassius auratus"."""
    info = ImageNetInfo()
    return [
        [name.strip() for name in info.index_to_description(index).split(",")] for index in range(CLASSES)
    ]


def class_texts(name_rank: int, template: str) -> list[str]:
    """One text a class: its name of that rank (or its first, if it has fewer or the name is a taxon) in the template."""
    chosen = (names[name_rank % len(names)] for names in class_names())
    firsts = (names[0] for names in class_names())
    return [
        in_template(template, name if name.islower() or name == first else first)
        for name, first in zip(chosen, firsts, strict=True)
    ]


def class_text_variants() -> list[list[str]]:
    """Every template with the first and the second names: 8 lists of 1,000 texts."""
    return [class_texts(rank, template) for rank in (0, 1) for template in TEMPLATES]


class ClassFeatures:
    """Draws features as photos of each class would have them."""

    def __init__(self, classifier: nn.Linear, features: Tensor) -> None:
        """`features`: float32 [n, d] of real photos, for the covariance and for the variety around each class."""
        self.features = features
        self.mean = features.mean(0)
        covariance = torch.cov(features.T)
        weight = classifier.weight.detach()
        directions = (weight - weight.mean(0)) @ covariance
        gain = ((weight - weight.mean(0)) * directions).sum(
            1, keepdim=True
        )  # what one step adds to the own logit
        self.directions = directions / gain

    def draw(self, classes: Tensor, gap: tuple[float, float] = (6.0, 14.0), spread: float = 0.6) -> Tensor:
        """Features float32 [n, d] of classes int64 [n]: mean + the class's step (own logit up by `gap`) + part of a real photo."""
        low, high = gap
        step = torch.empty(len(classes), 1).uniform_(low, high)
        photos = self.features[torch.randint(len(self.features), (len(classes),))] - self.mean
        return (self.mean + step * self.directions[classes] + spread * photos).clamp(0.0, 6.0)
