"""Contrastive tuning: the distilled text tower and the image head, on the training photos."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from models.heads import ImageHead, contrastive_loss, label_loss
from models.recipe import Recipe
from models.teacher import ClassKnowledge, PhotoVectors, Teacher
from models.text_tower import distillation_loss, encode_mixed, parameter_groups


@dataclass(frozen=True)
class TextLessons:
    """What the text tower reads while it is tuned.

    texts: tokens int32 [n, 32], with the teacher's vectors in targets float16 [n, dim];
    captions: which of the texts are a photo's captions, int64 [photos, captions];
    classes: tokens of the class names int32 [variants, 1000, 32].
    """

    captions: Tensor
    classes: Tensor
    texts: Tensor
    targets: Tensor


def tune(
    tower: TextTransformer,
    teacher: Teacher,
    photos: PhotoVectors,
    knowledge: ClassKnowledge,
    lessons: TextLessons,
    recipe: Recipe,
    log: Any = print,
) -> tuple[TextTransformer, ImageHead, Tensor]:
    """Averaged (EMA) copies of tower and head, and the log scale, after the tuning."""
    torch.manual_seed(recipe.seed + 2)
    head = copy.deepcopy(teacher.image)
    learned = nn.ModuleList([tower, head]).train().requires_grad_(True)
    averaged = copy.deepcopy(learned).eval().requires_grad_(False)
    log_scale = nn.Parameter(teacher.scale.clone())
    groups = [
        *({**group, "lr": recipe.tune_lr} for group in parameter_groups(tower)),
        {"params": [*head.parameters(), log_scale], "lr": recipe.tune_head_lr, "weight_decay": 0.05},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)
    batches = list(photos.batches(recipe.tune_batch, recipe.tune_epochs))
    peaks = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=len(batches), pct_start=0.1)
    for step, (chosen, turn) in enumerate(batches):
        loss = _loss(tower, head, log_scale, photos, knowledge, lessons, recipe, chosen, turn)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        log_scale.data.clamp_(max=math.log(100))
        average(averaged, learned, min(recipe.tune_average, (1 + step) / (10 + step)))
        if (step + 1) % (len(batches) // recipe.tune_epochs) == 0:
            log(f"tune step {step + 1} of {len(batches)}: loss {loss.item():.3f}", averaged[0], averaged[1])
    return averaged[0], averaged[1], log_scale.detach()  # type: ignore[return-value]


def _loss(
    tower: TextTransformer,
    head: ImageHead,
    scale: Tensor,
    photos: PhotoVectors,
    knowledge: ClassKnowledge,
    lessons: TextLessons,
    recipe: Recipe,
    chosen: Tensor,
    turn: Tensor,
) -> Tensor:
    """Photos with captions + ImageNet features with their names + the teacher's vectors of other texts."""
    own = lessons.captions[chosen, turn]
    variant = int(torch.randint(len(lessons.classes), ()))
    others = torch.randint(len(lessons.texts), (recipe.tune_texts,))
    drawn, classes = knowledge.draw(recipe.tune_classes)
    features = photos.drawn(chosen)
    images = head(features)
    captions = encode_mixed(tower, lessons.texts[own])
    words = encode_mixed(tower, torch.cat([lessons.classes[variant, classes], lessons.texts[others]]))
    names, read = words[: len(classes)], words[len(classes) :]
    labels = knowledge.answers(features)[:, classes]
    loss = contrastive_loss(images, captions, scale)
    loss = loss + recipe.class_weight * contrastive_loss(head(drawn), names, scale)
    loss = loss + recipe.label_weight * label_loss(images, names, labels, scale)
    taught = lessons.targets[torch.cat([own, others])].float()
    return loss + recipe.tune_distil * distillation_loss(torch.cat([captions, read]), taught, recipe)


@torch.no_grad()
def average(averaged: nn.Module, learned: nn.Module, keep: float) -> None:
    """Move the running mean towards what was learned, in place."""
    for kept, new in zip(averaged.parameters(), learned.parameters(), strict=True):
        kept.lerp_(new, 1 - keep)
