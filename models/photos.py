"""Photos with their captions, as the data folders hold them: JSON lines `{"image": file, "captions": [...]}`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CaptionedPhotos:
    """Photo files and, for each, its captions (one tuple a photo, same order)."""

    paths: tuple[Path, ...]
    captions: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, captions_file: Path, images: Path) -> CaptionedPhotos:
        rows = [json.loads(line) for line in captions_file.read_text(encoding="utf-8").splitlines() if line]
        return cls(
            paths=tuple(images / row["image"] for row in rows),
            captions=tuple(tuple(row["captions"]) for row in rows),
        )

    def flat_captions(self) -> tuple[list[str], list[int]]:
        """Every caption, and beside it the index of its photo."""
        texts = [text for captions in self.captions for text in captions]
        owners = [index for index, captions in enumerate(self.captions) for _ in captions]
        return texts, owners
