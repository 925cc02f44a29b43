"""Single object names and the sample pictures they belong to: how well words outside the captions are found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.recall import ranks, summary
from models.texts import in_template

NAME_TEMPLATES = ("{}", "a {}", "a photo of a {}")


@dataclass(frozen=True)
class NamedPictures:
    """Sample pictures with their object names; pictures that share a name are all right answers to it."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, samples: Path) -> NamedPictures:
        """Those lines of `samples/captions.jsonl` that have a name."""
        lines = (samples / "captions.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, filter(None, lines)) if row.get("name")]
        return cls(tuple(samples / row["image"] for row in rows), tuple(row["name"] for row in rows))

    def questions(self) -> tuple[list[str], Tensor]:
        """The distinct names, sorted, and which pictures answer each: bool [names, pictures]."""
        distinct = sorted(set(self.names))
        return distinct, torch.tensor([[name == own for own in self.names] for name in distinct])


def name_figures(
    pictures: Tensor, named: NamedPictures, encode_texts: Callable[[Sequence[str]], Tensor]
) -> dict[str, dict[str, float]]:
    """Figures of each template, names to pictures float [n, dim] (L2 norm 1) among all named pictures."""
    distinct, relevant = named.questions()
    return {
        template: summary(
            ranks(encode_texts([in_template(template, name) for name in distinct]) @ pictures.T, relevant)
        )
        for template in NAME_TEMPLATES
    }


def name_ranks(
    pictures: Tensor, named: NamedPictures, encode_texts: Callable[[Sequence[str]], Tensor], samples: Path
) -> list[dict[str, object]]:
    """For each name its pictures (relative to `samples`) and the rank of the best of them, for the bare name."""
    distinct, relevant = named.questions()
    found = ranks(encode_texts(distinct) @ pictures.T, relevant).tolist()
    files = [path.relative_to(samples).as_posix() for path in named.paths]
    return [
        {"name": name, "rank": rank, "pictures": [file for file, hit in zip(files, hits, strict=True) if hit]}
        for name, rank, hits in zip(distinct, found, relevant.tolist(), strict=True)
    ]
