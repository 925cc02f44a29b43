"""Names and glosses of visible things, from WordNet's database files (Debian package `wordnet-base`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
# Lexicographer files whose nouns can be seen in a picture (see lexnames(5)).
VISIBLE_FILES = {
    "04": "act", "05": "animal", "06": "artifact", "08": "body", "11": "event", "13": "food", "14": "group",
    "15": "location", "17": "object", "18": "person", "19": "phenomenon", "20": "plant", "25": "shape",
    "27": "substance",
}  # fmt: skip


@dataclass(frozen=True)
class Synset:
    """One meaning: its names (spaces, not underscores) and its gloss without the examples."""

    names: tuple[str, ...]
    gloss: str


def visible_nouns(folder: Path = WORDNET) -> list[Synset]:
    """Synsets of visible common nouns, in file order; no individuals ("Einstein"), no capitalised names (taxa)."""
    lines = (folder / "data.noun").read_text(encoding="utf-8").splitlines()
    synsets = (_synset(line) for line in lines if not line.startswith(" "))
    return [synset for synset in synsets if synset is not None and synset.names]


def tagged_nouns(folder: Path = WORDNET) -> set[str]:
    """Nouns that occur in WordNet's sense-tagged texts: the common words among its many."""
    lines = (folder / "cntlist.rev").read_text(encoding="utf-8").splitlines()
    return {line.split("%", 1)[0].replace("_", " ") for line in lines if "%1:" in line}


def _synset(line: str) -> Synset | None:
    data, _, gloss = line.partition(" | ")
    fields = data.split(" ")
    if fields[1] not in VISIBLE_FILES or " @i " in data:
        return None
    count = int(fields[3], 16)
    names = (fields[4 + 2 * index].replace("_", " ") for index in range(count))
    return Synset(tuple(name for name in names if name.islower()), gloss.split("; ")[0].strip())
