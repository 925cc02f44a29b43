"""What an index run did, as JSON and as words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class IndexReport:
    """Counts of files: seen = added + updated + moved + unchanged + quarantined; `deleted` are points without a file."""

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
    dry_run: bool = False

    def foresee(self, added: int, updated: int, moved: int, deleted: int) -> None:
        """Turns this into the report of a dry run: what would be done."""
        self.dry_run = True
        self.added, self.updated, self.moved, self.deleted = added, updated, moved, deleted

    @property
    def images_per_second(self) -> float:
        """Files handled a second, over the whole run."""
        return round(self.seen / self.seconds, 1) if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The contract's report."""
        return {
            **asdict(self),
            "seconds": round(self.seconds, 2),
            "images_per_second": self.images_per_second,
        }

    def to_text(self) -> str:
        """A few lines for people."""
        names = ("seen", "added", "updated", "moved", "unchanged", "deleted", "quarantined")
        counts = "\n".join(f"{name + ':':<13}{getattr(self, name)}" for name in names)
        title = "Would be done (nothing was changed)" if self.dry_run else "Done"
        pace = f"{self.seconds:.1f} s, {self.images_per_second:g} pictures/s"
        return f"{title}: collection {self.collection}, model {self.model}, {pace}\n{counts}"
