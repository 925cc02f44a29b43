"""What an index run did, as JSON and as words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class IndexReport:
    """Counts of files: seen = added + updated + moved + unchanged + quarantined.

    `deleted` are points without a file, or of an unfinished collection and not listed any more.
    """

    collection: str
    model: str
    seen: int = 0
    added: int = 0
    updated: int = 0
    moved: int = 0
    unchanged: int = 0
    deleted: int = 0
    quarantined: int = 0
    embedded: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each part of the run: plan, load, hnsw, publish."""
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each stage its `pictures`, and the `seconds` of work that its workers spent on them together."""
    dry_run: bool = False

    def foresee(self, added: int, updated: int, moved: int, deleted: int) -> None:
        """Turns this into the report of a dry run: what would be done."""
        self.dry_run = True
        self.added, self.updated, self.moved, self.deleted = added, updated, moved, deleted

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Notes how long a part of the run takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(self.phases.get(name, 0.0) + time.monotonic() - began, 2)

    @property
    def images_per_second(self) -> float:
        """Files handled a second, over the whole run."""
        return round(self.seen / self.seconds, 1) if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The contract's report."""
        return {
            **asdict(self),
            "stages": {
                name: {**did, "seconds": round(did["seconds"], 2)} for name, did in self.stages.items()
            },
            "seconds": round(self.seconds, 2),
            "images_per_second": self.images_per_second,
        }

    def to_text(self) -> str:
        """A few lines for people."""
        names = ("seen", "added", "updated", "moved", "unchanged", "deleted", "quarantined")
        counts = "\n".join(f"{name + ':':<13}{getattr(self, name)}" for name in names)
        if self.dry_run:
            broken = "broken pictures are found when they are decoded"
            return (
                f"Would be done at most (nothing was changed; {broken}), with model {self.model}:\n{counts}"
            )
        pace = f"{self.seconds:.1f} s, {self.images_per_second:g} pictures/s"
        lines = [f"Done: collection {self.collection}, model {self.model}, {pace}", counts]
        if self.phases:
            lines.append("phases:      " + ", ".join(f"{name} {s:.1f} s" for name, s in self.phases.items()))
        for name, did in self.stages.items():
            lines.append(f"{name + ':':<13}{did['pictures']:.0f} pictures in {did['seconds']:.1f} s of work")
        return "\n".join(lines)
