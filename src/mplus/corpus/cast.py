"""Who and what facts are about: names that look alike and never repeat. Knows nothing of relations or facts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.names import (
    BUILDINGS,
    CLUBS,
    FIRST_NAMES,
    PLACE_WORDS,
    PSEUDO_FIRST_NAMES,
    PSEUDO_SURNAMES,
    SURNAMES,
    TITLE_ADJECTIVES,
    TITLE_NOUNS,
    TRADES,
    Split,
)
from mplus.errors import InputError

KINDS: Final = ("person", "place", "ship", "club", "company", "novel")
_KIND_WEIGHTS: Final = (52, 14, 8, 8, 10, 8)
_PHRASES: Final = {
    "person": "{} {}",
    "place": "the {} {}",
    "ship": "the ship {} {}",
    "club": "the {} {}",
    "company": "{} {}",
    "novel": "the novel {} {}",
}
_PSEUDO_SHARE: Final = 0.2
_LOOK_ALIKE_SHARE: Final = 0.6
_RECENT_NAMES: Final = 32
_TRIES: Final = 40


@dataclass(frozen=True)
class Subject:
    """Somebody or something facts are about."""

    kind: str
    name: str


class Cast:
    """Draws subjects and names of people; a subject never comes twice.

    Three names in five share one word with a recent name: the same given name with another surname,
    the same surname with another given name, two houses called Cedar, two bridges.
    """

    def __init__(self, rng: Random, split: Split) -> None:
        self._rng = rng
        self._split: Split = split
        self._used: set[str] = set()
        self._recent: dict[str, deque[tuple[str, str]]] = {kind: deque(maxlen=_RECENT_NAMES) for kind in KINDS}

    def subject(self) -> Subject:
        """A subject never returned before.

        Raises:
            InputError: the split has no unused name left.
        """
        for kind in self._rng.choices(KINDS, _KIND_WEIGHTS, k=_TRIES):
            words = self._words(kind, look_alike=self._rng.random() < _LOOK_ALIKE_SHARE)
            name = _PHRASES[kind].format(*words)
            if name not in self._used:
                self._used.add(name)
                self._recent[kind].append(words)
                return Subject(kind, name)
        raise InputError(
            f"no unused names are left in split '{self._split}' after {len(self._used)} subjects; "
            "make fewer facts with one FactMaker, or raise facts_per_subject"
        )

    def person(self) -> str:
        """The name of a person as a value; it may return later and often resembles a subject's."""
        words = self._words("person", look_alike=self._rng.random() < _LOOK_ALIKE_SHARE / 2)
        return " ".join(words)

    def title(self) -> str:
        """Two words as on the cover of a novel."""
        return " ".join(self._words("novel", look_alike=False))

    def _words(self, kind: str, *, look_alike: bool) -> tuple[str, str]:
        first, second = self._fresh_words(kind)
        recent = self._recent[kind]
        if look_alike and recent:
            seen_first, seen_second = self._rng.choice(recent)
            return (seen_first, second) if self._rng.random() < 0.5 else (first, seen_second)
        return first, second

    def _fresh_words(self, kind: str) -> tuple[str, str]:
        rng, split = self._rng, self._split
        pseudo = rng.random() < _PSEUDO_SHARE
        if kind == "person":
            first = rng.choice((PSEUDO_FIRST_NAMES if pseudo else FIRST_NAMES)[split])
            return first, rng.choice((PSEUDO_SURNAMES if pseudo else SURNAMES)[split])
        if kind in ("ship", "novel"):
            return rng.choice(TITLE_ADJECTIVES[split]), rng.choice(TITLE_NOUNS[split])
        owners = SURNAMES if kind == "company" else PLACE_WORDS
        kinds_of_house = {"place": BUILDINGS, "club": CLUBS, "company": TRADES}[kind]
        return rng.choice((PSEUDO_SURNAMES if pseudo else owners)[split]), rng.choice(kinds_of_house[split])
