"""A small made-up language: facts about pairs of names between filler sentences, word by word. Knows no tokenizer and no model.

A fact is ``relation First Last value .``; a question is its first three words, and the value is its answer. Values are drawn anew for
every fact, so nothing but memory can tell them. Pairs of the held-out split never appear in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

Split = Literal["train", "held_out"]

_LARGEST_BYTES: Final = 1 << 20
_CONSONANTS: Final = "bdfgklmnprstvz"
_VOWELS: Final = "aeiou"
_SYLLABLES: Final = tuple(consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS)

NAMES: Final = 320
VALUES: Final = 256
FILLERS: Final = 192
RELATIONS: Final = ("bird", "tree", "town", "dish")
STOP: Final = "."
UNKNOWN: Final = "<unk>"
FACT_WORDS: Final = 5
VALUE_AT: Final = 3
"""Place of the value among them."""
FACT_SHARE: Final = 0.25
"""Of the sentences of a text."""
FILLER_WORDS: Final = (2, 7)
"""Fewest and most words of a sentence that says nothing."""
LONGEST_SENTENCE: Final = FILLER_WORDS[1] + 1
HELD_OUT_EVERY: Final = 4
"""One pair of names in so many is held out."""


def _words(count: int, syllables: int, seed: int) -> tuple[str, ...]:
    """Distinct made-up words; those of another number of syllables are others."""
    randomness, found = Random(seed), dict[str, None]()
    while len(found) < count:
        found.setdefault("".join(randomness.choice(_SYLLABLES) for _ in range(syllables)))
    return tuple(found)


FIRST: Final = tuple(word.capitalize() for word in _words(NAMES, 2, 1))
LAST: Final = tuple(word.capitalize() for word in _words(NAMES, 3, 2))
VALUE: Final = _words(VALUES, 3, 3)
FILLER: Final = _words(FILLERS, 2, 4)
VOCABULARY: Final = (UNKNOWN, STOP, *RELATIONS, *FIRST, *LAST, *VALUE, *FILLER)
"""All words; a word's place is its token id."""


@dataclass(frozen=True)
class PairFact:
    """One fact."""

    first: str
    last: str
    relation: str
    value: str

    @property
    def question(self) -> str:
        """Words before the value."""
        return f"{self.relation} {self.first} {self.last}"

    @property
    def statement(self) -> str:
        """The sentence."""
        return f"{self.question} {self.value} {STOP}"


def are_words_of(tokenizer: Path) -> bool:
    """Tell whether a ``tokenizer.json`` has a token for every word of the language."""
    if not tokenizer.is_file() or tokenizer.stat().st_size > _LARGEST_BYTES:
        return False
    stored = json.loads(tokenizer.read_bytes())
    known = stored.get("model", {}).get("vocab", {}) if isinstance(stored, dict) else {}
    return isinstance(known, dict) and all(word in known for word in VOCABULARY)


def is_held_out(first: int, last: int) -> bool:
    """Tell whether a pair of names, by their numbers, belongs to the held-out split."""
    return (first + last) % HELD_OUT_EVERY == 0


def facts(randomness: Random, split: Split) -> Iterator[PairFact]:
    """Endless facts, no pair of names twice until half of the split is used up."""
    seen = set[tuple[int, int]]()
    while True:
        pair = randomness.randrange(NAMES), randomness.randrange(NAMES)
        if is_held_out(*pair) != (split == "held_out") or pair in seen:
            continue
        seen.add(pair)
        if len(seen) > NAMES * NAMES // HELD_OUT_EVERY // 2:
            seen.clear()
        yield PairFact(FIRST[pair[0]], LAST[pair[1]], randomness.choice(RELATIONS), randomness.choice(VALUE))


def filler(randomness: Random) -> str:
    """A sentence that says nothing."""
    return " ".join([*(randomness.choice(FILLER) for _ in range(randomness.randint(*FILLER_WORDS))), STOP])
