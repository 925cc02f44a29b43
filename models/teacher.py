"""The teacher: heads that join frozen image features and frozen sentence vectors, trained on captioned photos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.heads import ImageHead, TextHead, contrastive_loss, label_loss
from models.imagenet import CLASSES, ClassFeatures
from models.recipe import Recipe


@dataclass(frozen=True)
class PhotoVectors:
    """Captioned photos as the frozen networks see them.

    views: float32 [views, photos, 1280]; sentences: float32 [photos, captions, 384], L2 norm 1.
    """

    views: Tensor
    sentences: Tensor

    def batches(self, batch: int, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Photo indices int64 [b] and one caption index of each [b]; a photo is at most once in a batch."""
        photos, captions = self.sentences.shape[:2]
        for _ in range(epochs):
            for turn in torch.rand(photos, captions).argsort(1).T:
                order = torch.randperm(photos)
                for chosen in order.split(batch):
                    yield chosen, turn[chosen]

    def drawn(self, photos: Tensor) -> Tensor:
        """One view of each photo at random: float32 [b, 1280]."""
        return self.views[torch.randint(len(self.views), (len(photos),)), photos]


@dataclass(frozen=True)
class ClassKnowledge:
    """The classifier's side: features of classes, vectors of their names, and its answers for real features.

    names: float32 [variants, 1000, 384], L2 norm 1.
    """

    features: ClassFeatures
    names: Tensor
    classifier: nn.Linear

    @torch.no_grad()
    def answers(self, features: Tensor) -> Tensor:
        """Shares of the classes float32 [n, 1000] for features [n, 1280]."""
        answers: Tensor = self.classifier(features).softmax(-1)
        return answers

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Features float32 [count, 1280] of that many different classes, and the classes int64 [count]."""
        classes = torch.randperm(CLASSES)[:count]
        return self.features.draw(classes), classes


@dataclass(frozen=True)
class Teacher:
    """Both heads and the log of the scale of their similarities."""

    image: ImageHead
    text: TextHead
    scale: Tensor


def new_image_head(views: Tensor, recipe: Recipe) -> ImageHead:
    """An untrained head for features like views float32 [views, photos, 1280]."""
    flat = views.flatten(0, 1)
    return ImageHead(flat.mean(0), flat.std(0) + 1e-3, recipe.dim, recipe.head_dropout)


def train_teacher(photos: PhotoVectors, knowledge: ClassKnowledge, recipe: Recipe) -> Teacher:
    """Both heads, trained together: CLIP's loss on photos and captions, class losses on names."""
    torch.manual_seed(recipe.seed)
    image = new_image_head(photos.views, recipe)
    text = TextHead(photos.sentences.shape[-1], recipe.dim, recipe.text_hidden, recipe.head_dropout)
    scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    parameters = [*image.parameters(), *text.parameters(), scale]
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.head_lr, weight_decay=recipe.head_weight_decay, fused=True
    )
    batches = list(photos.batches(recipe.head_batch, recipe.head_epochs))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.head_lr, total_steps=len(batches))
    for step, (chosen, turn) in enumerate(batches):
        features = photos.drawn(chosen)
        images = image(features)
        loss = contrastive_loss(images, text(photos.sentences[chosen, turn]), scale)
        drawn, classes = knowledge.draw(recipe.classes_a_batch)
        names = text(knowledge.names[step % len(knowledge.names), classes])
        loss = loss + recipe.class_weight * contrastive_loss(image(drawn), names, scale)
        labels = knowledge.answers(features)[:, classes]
        loss = loss + recipe.label_weight * label_loss(images, names, labels, scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        scale.data.clamp_(max=math.log(100))
    return Teacher(image.eval().requires_grad_(False), text.eval().requires_grad_(False), scale.detach())
