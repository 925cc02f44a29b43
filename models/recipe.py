"""Every number of the training, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Sizes of the model, and lengths and weights of each training step."""

    seed: int = 0
    views: tuple[str, ...] = ("plain",)  # of the training photos, see features.py
    dim: int = 448  # with fp16 weights the whole model stays under 45 MB

    head_epochs: int = 20
    head_batch: int = 1000
    head_lr: float = 1e-3
    head_weight_decay: float = 0.05
    head_dropout: float = 0.5
    text_hidden: int = 512
    classes_a_batch: int = 400
    class_weight: float = 0.3  # loss on features drawn for ImageNet classes
    label_weight: float = 0.3  # loss on the classifier's own answers for the photos

    distil_epochs: int = 1
    distil_batch: int = 256
    distil_lr: float = 1.5e-3
    distil_contrast: float = 0.1
    distil_temperature: float = 0.05

    tune_epochs: int = 4
    tune_batch: int = 300
    tune_lr: float = 5e-4
    tune_head_lr: float = 3e-4
    tune_classes: int = 100
    tune_texts: int = 100
    tune_distil: float = 1.0
    tune_average: float = 0.98  # of the running mean that is exported

    finish_epochs: int = 20
    finish_batch: int = 1000
    finish_lr: float = 1e-3
    finish_weight_decay: float = 0.3
    finish_drop_in: float = 0.5  # much, of features and hidden units: the photos are few
    finish_dropout: float = 0.7
    finish_classes: int = 200
    finish_class_weight: float = 0.6
    finish_label_weight: float = 0.6
    finish_average: float = 0.99
