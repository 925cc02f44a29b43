"""Trains the built-in model: `python -m models.train` (`make model`).

    photos --frozen EfficientNet--> features --+                      +--> image head --+
                                               +--> teacher (2 heads) +                 +--> tune --> finish --> export --> report
    texts  --frozen MiniLM--------> sentences -+                      +--> text tower --+

Each arrow's result is cached in `--cache`; a run that was interrupted goes on from there. Empty the cache after
changing the recipe or the texts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from models.cache import cached, cpu_minutes
from models.export import export
from models.features import FEATURE_DIM, image_features, load_backbone
from models.finish import finish
from models.heads import ImageHead, TextHead
from models.imagenet import CLASSES, ClassFeatures, class_text_variants
from models.minilm import SENTENCE_DIM, MiniLM
from models.photos import CaptionedPhotos
from models.recall import both_directions
from models.recipe import Recipe
from models.report import write_report
from models.teacher import ClassKnowledge, PhotoVectors, Teacher, new_image_head, train_teacher
from models.text_tower import distil, encode_all, new_text_tower, start_from_words, tokenize
from models.texts import distillation_texts
from models.tune import TextLessons, tune
from search_core.allocator import keep_freed_memory

MODELS = Path(__file__).parent
DATA = MODELS.parent.parent / "shared/data"


class Training:
    """The steps in order; each reads the cached results of those before it."""

    def __init__(self, data: Path, cache: Path, recipe: Recipe) -> None:
        self.cache, self.recipe = cache, recipe
        images = data / "flickr8k/images"
        self.train = CaptionedPhotos.read(data / "flickr8k/train.jsonl", images)
        self.dev = CaptionedPhotos.read(data / "flickr8k/dev.jsonl", images)
        self.captions, _ = self.train.flat_captions()
        self.dev_captions, self.dev_owners = self.dev.flat_captions()
        self.texts = distillation_texts(self.captions, data / "texts/coco-captions.txt")

    def run(self, out: Path) -> None:
        """All steps, from the data to the exported model."""
        photos, knowledge = self.photo_vectors(), self.class_knowledge()
        teacher = self.teacher(photos, knowledge)
        lessons = self.lessons(teacher)
        tuned = self.tuned(self.tower(lessons), teacher, photos, knowledge, lessons)
        tower, head, scale = self.finished(*tuned, photos, knowledge, lessons)
        export(out, head, tower, scale, self.recipe.dim)

    def features(self, split: str, view: str) -> Tensor:
        """float32 [photos, 1280]."""
        paths = (self.train if split == "train" else self.dev).paths
        path = self.cache / f"features-{split}-{view}.pt"
        return cached(path, lambda: {"features": image_features(paths, view)})["features"].float()

    def sentences(self, name: str, texts: Sequence[str]) -> Tensor:
        """float32 [texts, 384], L2 norm 1."""
        path = self.cache / f"sentences-{name}.pt"
        return cached(path, lambda: {"s": MiniLM().encode(texts)})["s"].float()

    def photo_vectors(self) -> PhotoVectors:
        """The training photos and captions as the frozen networks see them."""
        views = torch.stack([self.features("train", view) for view in self.recipe.views])
        sentences = self.sentences("train", self.captions)
        return PhotoVectors(views, sentences.view(len(self.train.paths), -1, SENTENCE_DIM))

    def class_knowledge(self) -> ClassKnowledge:
        """The image network's classifier and the vectors of its classes' names."""
        texts = [text for variant in class_text_variants() for text in variant]
        names = self.sentences("classes", texts).view(-1, CLASSES, SENTENCE_DIM)
        classifier = load_backbone().get_submodule("classifier")
        if not isinstance(classifier, nn.Linear):
            raise TypeError(f"expected a linear classifier, found {type(classifier).__name__}")
        return ClassKnowledge(ClassFeatures(classifier, self.features("train", "plain")), names, classifier)

    def teacher(self, photos: PhotoVectors, knowledge: ClassKnowledge) -> Teacher:
        """Both heads, trained."""

        def make() -> dict[str, Tensor]:
            made = train_teacher(photos, knowledge, self.recipe)
            return {**_named(made.image, "image."), **_named(made.text, "text."), "scale": made.scale}

        stored = cached(self.cache / "teacher.pt", make)
        image = new_image_head(photos.views, self.recipe).eval()
        text = TextHead(
            SENTENCE_DIM, self.recipe.dim, self.recipe.text_hidden, self.recipe.head_dropout
        ).eval()
        image.load_state_dict(_part(stored, "image."))
        text.load_state_dict(_part(stored, "text."))
        with torch.no_grad():
            self._log("teacher", text(self.sentences("dev", self.dev_captions)), image)
        return Teacher(image.requires_grad_(False), text.requires_grad_(False), stored["scale"])

    def lessons(self, teacher: Teacher) -> TextLessons:
        """Tokens of all texts, and the teacher's vectors of them."""
        vectors = zip(self.captions, self.sentences("train", self.captions), strict=True)
        known = {text.strip(): vector for text, vector in vectors}
        extra = [text for text in self.texts if text not in known]
        known.update(zip(extra, self.sentences("extra", extra), strict=True))

        @torch.no_grad()
        def make() -> dict[str, Tensor]:
            rows = torch.stack([known[text] for text in self.texts])
            targets = [F.normalize(teacher.text(part), dim=-1).half() for part in rows.split(5000)]
            return {"tokens": tokenize(self.texts), "targets": torch.cat(targets)}

        stored = cached(self.cache / "lessons.pt", make)
        row_of = {text: row for row, text in enumerate(self.texts)}
        rows = torch.tensor([row_of[text.strip()] for text in self.captions]).view(len(self.train.paths), -1)
        classes = torch.stack([tokenize(variant) for variant in class_text_variants()])
        return TextLessons(rows, classes, stored["tokens"], stored["targets"])

    def tower(self, lessons: TextLessons) -> TextTransformer:
        """The text tower, distilled."""

        def make() -> dict[str, Tensor]:
            torch.manual_seed(self.recipe.seed + 1)
            made = new_text_tower(self.recipe.dim)
            start_from_words(made, MiniLM())
            distil(made, lessons.texts, lessons.targets, self.recipe, log=self._log_tower)
            return dict(made.state_dict())

        tower = new_text_tower(self.recipe.dim)
        tower.load_state_dict(cached(self.cache / "tower.pt", make))
        return tower

    def tuned(
        self,
        tower: TextTransformer,
        teacher: Teacher,
        photos: PhotoVectors,
        knowledge: ClassKnowledge,
        lessons: TextLessons,
    ) -> tuple[TextTransformer, ImageHead, Tensor]:
        """The text tower and the image head after the contrastive tuning, and the log scale."""

        def make() -> dict[str, Tensor]:
            made = tune(tower, teacher, photos, knowledge, lessons, self.recipe, self._log_both)
            return _both(*made)

        return self._stored_both("tuned", make, photos)

    def finished(
        self,
        tower: TextTransformer,
        head: ImageHead,
        scale: Tensor,
        photos: PhotoVectors,
        knowledge: ClassKnowledge,
        lessons: TextLessons,
    ) -> tuple[TextTransformer, ImageHead, Tensor]:
        """The same three after the last step."""

        def make() -> dict[str, Tensor]:
            made = finish(tower, head, scale, photos, knowledge, lessons, self.recipe, self._log_both)
            return _both(*made)

        return self._stored_both("finished", make, photos)

    def _stored_both(
        self, step: str, make: Callable[[], dict[str, Tensor]], photos: PhotoVectors
    ) -> tuple[TextTransformer, ImageHead, Tensor]:
        stored = cached(self.cache / f"{step}.pt", make)
        tower = new_text_tower(self.recipe.dim).eval()
        head = new_image_head(photos.views, self.recipe).eval()
        tower.load_state_dict(_part(stored, "text."))
        head.load_state_dict(_part(stored, "image."))
        self._log_both(step, tower, head)
        return tower.requires_grad_(False), head.requires_grad_(False), stored["scale"]

    def _log_tower(self, message: str, tower: TextTransformer) -> None:
        stored = torch.load(self.cache / "teacher.pt", weights_only=True)
        head = ImageHead(torch.zeros(FEATURE_DIM), torch.ones(FEATURE_DIM), self.recipe.dim, 0.0).eval()
        head.load_state_dict(_part(stored, "image."))
        self._log_both(message, tower, head)

    def _log_both(self, message: str, tower: TextTransformer, head: ImageHead) -> None:
        self._log(message, encode_all(tower, tokenize(self.dev_captions)), head)

    @torch.no_grad()
    def _log(self, message: str, texts: Tensor, head: ImageHead) -> None:
        figures = both_directions(head(self.features("dev", "plain")), texts, self.dev_owners)
        print(f"{time.strftime('%H:%M:%S')} {message}: dev {figures}", flush=True)


def _named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def _both(tower: TextTransformer, head: ImageHead, scale: Tensor) -> dict[str, Tensor]:
    return {**_named(tower, "text."), **_named(head, "image."), "scale": scale}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, export and report."""
    parser = argparse.ArgumentParser(description="Train the built-in model.")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with flickr8k, coco-mini and texts")
    parser.add_argument(
        "--out", type=Path, default=MODELS / "builtin", help="folder for the model, its card and its report"
    )
    parser.add_argument(
        "--cache", type=Path, default=MODELS / ".cache", help="folder for results of each step"
    )
    parser.add_argument("--samples", type=Path, default=MODELS.parent / "samples", help="named demo pictures")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    Training(options.data, options.cache, Recipe()).run(options.out)
    write_report(options.out, options.data, options.samples, cpu_minutes(options.cache))


if __name__ == "__main__":
    main()
