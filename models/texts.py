"""The texts on which the text tower learns to agree with its teacher: captions, and words people may type."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from models.wordnet import Synset, tagged_nouns, visible_nouns

TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of the {}")
ATTRIBUTES = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "orange", "pink", "purple", "grey", "small", "big",
    "old", "wooden", "two", "three", "many",
)  # fmt: skip
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")


def in_template(template: str, name: str) -> str:
    """The template filled with the name, with "an" before a vowel."""
    text = template.format(name)
    return re.sub(rf"\ba (?={re.escape(name)})", "an ", text) if name[:1] in "aeiou" else text


def caption_words(captions: Iterable[str], at_least: int = 2) -> list[str]:
    """Words that occur in the captions at least so often, most frequent first."""
    counts = Counter(word for caption in captions for word in _WORD.findall(caption.lower()))
    return [word for word, count in counts.most_common() if count >= at_least]


def word_texts(synsets: Sequence[Synset], common: set[str], rng: random.Random) -> list[str]:
    """Names of one or two words alone and in templates: all templates for common names, one drawn for the others."""
    names = sorted({name for synset in synsets for name in synset.names if name.count(" ") < 2})
    texts: list[str] = []
    for name in names:
        templates = TEMPLATES if name in common else (rng.choice(TEMPLATES),)
        texts.extend(in_template(template, name) for template in templates)
    return texts


def attribute_texts(names: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Phrases such as "red car", drawn from attributes and names."""
    return [f"{rng.choice(ATTRIBUTES)} {rng.choice(names)}" for _ in range(count)]


def distillation_texts(
    train_captions: Sequence[str],
    extra_captions: Path,
    *,
    gloss_count: int = 10_000,
    attribute_count: int = 8_000,
    seed: int = 0,
) -> list[str]:
    """All texts, each once, in a fixed order: captions first, then words, attributes with words, glosses."""
    rng = random.Random(seed)
    captions = [*train_captions, *extra_captions.read_text(encoding="utf-8").splitlines()]
    synsets = visible_nouns()
    seen_words = caption_words(captions)
    names = {name for synset in synsets for name in synset.names}
    common = names & (tagged_nouns() | set(seen_words))
    glosses = [synset.gloss for synset in synsets]
    texts = [
        *captions,
        *seen_words,
        *word_texts(synsets, common, rng),
        *attribute_texts(sorted(common), attribute_count, rng),
        *rng.sample(glosses, min(gloss_count, len(glosses))),
    ]
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))
