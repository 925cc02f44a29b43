"""The last step: image head and text projection trained further on the finished text tower, whose layers stand still.

What the tower says of each training text is computed once, so a step costs little and its batches can be large.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from models.heads import ImageHead, contrastive_loss, label_loss
from models.recipe import Recipe
from models.teacher import ClassKnowledge, PhotoVectors
from models.text_tower import before_projection, cut
from models.tune import TextLessons, average


@torch.no_grad()
def _said(tower: TextTransformer, tokens: Tensor, batch: int = 250) -> Tensor:
    """`before_projection` of tokens int32 [n, 32], computed in batches of like length: float32 [n, width]."""
    order = (tokens != 0).sum(1).argsort()
    rows = torch.cat([before_projection(tower, cut(tokens[part])) for part in order.split(batch)])
    return rows[order.argsort()]


def finish(
    tower: TextTransformer,
    head: ImageHead,
    scale: Tensor,
    photos: PhotoVectors,
    knowledge: ClassKnowledge,
    lessons: TextLessons,
    recipe: Recipe,
    log: Any = print,
) -> tuple[TextTransformer, ImageHead, Tensor]:
    """Tower (with another projection), head and log scale; averaged over the steps (EMA)."""
    torch.manual_seed(recipe.seed + 3)
    captions = _said(tower, lessons.texts[lessons.captions.flatten()]).unflatten(0, lessons.captions.shape)
    names = _said(tower, lessons.classes.flatten(0, 1)).unflatten(0, lessons.classes.shape[:2])
    head = copy.deepcopy(head).train().requires_grad_(True)
    head.drop_in.p, head.drop.p = recipe.finish_drop_in, recipe.finish_dropout
    projection = nn.Linear(tower.width, recipe.dim, bias=False)
    projection.weight.data.copy_(tower.text_projection.T)
    log_scale = nn.Parameter(scale.clone())
    learned = nn.ModuleList([projection, head])
    averaged = copy.deepcopy(learned).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [
            {"params": learned.parameters(), "weight_decay": recipe.finish_weight_decay},
            {"params": [log_scale], "weight_decay": 0.0},
        ],
        lr=recipe.finish_lr,
        fused=True,
    )
    batches = list(photos.batches(recipe.finish_batch, recipe.finish_epochs))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.finish_lr, total_steps=len(batches), pct_start=0.1
    )
    finished = copy.deepcopy(tower).eval().requires_grad_(False)
    for step, (chosen, turn) in enumerate(batches):
        features = photos.drawn(chosen)
        images = head(features)
        loss = contrastive_loss(images, projection(captions[chosen, turn]), log_scale)
        drawn, classes = knowledge.draw(recipe.finish_classes)
        called = projection(names[step % len(names), classes])
        loss = loss + recipe.finish_class_weight * contrastive_loss(head(drawn), called, log_scale)
        labels = knowledge.answers(features)[:, classes]
        loss = loss + recipe.finish_label_weight * label_loss(images, called, labels, log_scale)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        log_scale.data.clamp_(max=math.log(100))
        average(averaged, learned, min(recipe.finish_average, (1 + step) / (10 + step)))
        if (step + 1) % (len(batches) // recipe.finish_epochs * 5) == 0:
            finished.text_projection.copy_(averaged[0].weight.T)
            log(f"finish step {step + 1} of {len(batches)}: loss {loss.item():.3f}", finished, averaged[1])
    finished.text_projection.copy_(averaged[0].weight.T)
    return finished, averaged[1], log_scale.detach()  # type: ignore[return-value]
