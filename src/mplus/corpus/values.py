"""Values of every kind to train on. Knows nothing of relations."""

from __future__ import annotations

from random import Random
from typing import Final

from mplus.corpus.names import NameGenerator
from mplus.corpus.numbers import NUMBERS
from mplus.corpus.word_lists import SplitWords, Table, Words


class ValueTable(Table):
    """Word values by kind, and the parts of composed ones. Within a kind no held-out value contains another."""

    words: dict[str, SplitWords]
    countable: frozenset[str]  # kinds whose values want an article before them
    dishes: Words
    ingredients: Words
    modifiers: Words  # of objects
    passwords: Words
    streets: Words


VALUES: Final = ValueTable.read("values")
_NAMED: Final = ("person", "title", "petname", "street", "brand", "village", "password", "nickname", "surname", "shop", "team")


def kinds() -> frozenset[str]:
    """All kinds that can be drawn."""
    return frozenset(NUMBERS.keys() | VALUES.words.keys() | set(_NAMED))


def reserved_values() -> frozenset[str]:
    """Lower-case held-out word values of all kinds, which training never sees."""
    return frozenset(value.lower() for words in VALUES.words.values() for value in words.held_out)


_RESERVED: Final = reserved_values()


class ValueGenerator:
    """Draws values of a kind, never one that belongs to the held-out split."""

    def __init__(self, rng: Random, names: NameGenerator) -> None:
        self._rng, self._names = rng, names

    def draw(self, kind: str) -> str:
        """A value of a kind: one of `kinds()`."""
        while True:
            value = self._draw(kind)
            if value.lower() not in _RESERVED:
                return value

    def _draw(self, kind: str) -> str:
        rng, words = self._rng, VALUES.words
        if kind in NUMBERS:
            return NUMBERS[kind](rng)
        if kind == "food" and rng.random() >= 0.35:
            return f"{rng.choice(VALUES.ingredients)} {rng.choice(VALUES.dishes)}"
        if kind == "object":
            thing = rng.choice(words["object"].train)
            return f"{rng.choice(VALUES.modifiers)} {thing}" if rng.random() < 0.35 else thing
        if kind == "city" and rng.random() < 0.15:
            return self._names.invented()
        return rng.choice(words[kind].train) if kind in words else self._named(kind)

    def _named(self, kind: str) -> str:
        rng, names = self._rng, self._names
        match kind:
            case "person":
                return names.person()
            case "title":
                return names.title()
            case "street":
                number = f"{rng.randint(1, 240)} " if rng.random() < 0.5 else ""
                return f"{number}{names.place_word()} {rng.choice(VALUES.streets)}"
            case "password":
                word = rng.choice(VALUES.passwords) if rng.random() < 0.6 else names.invented().lower()
                return word + rng.choice(("", "", str(rng.randint(2, 99)), "-" + rng.choice(VALUES.passwords)))
            case "surname":
                return names.last()
            case "petname" | "nickname":
                return rng.choice((names.first(), names.invented(1), rng.choice(VALUES.passwords).capitalize()))
            case "shop":
                return names.subject("company").name
            case "team":
                return names.subject("club").name.removeprefix("the ")
            case _:
                return names.invented()
