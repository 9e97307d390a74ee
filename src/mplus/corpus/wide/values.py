"""What is said of somebody: values of every kind, to train on. Knows nothing of relations."""

from __future__ import annotations

from random import Random
from typing import Final

from mplus.corpus.values import WORDS
from mplus.corpus.wide.figures import FIGURES
from mplus.corpus.wide.naming import Namer
from mplus.corpus.wide.reserved import free_values, reserved_values
from mplus.corpus.wide.vocabulary import DISHES, INGREDIENTS, MODIFIERS, MORE_WORDS, PASSWORD_WORDS

COUNTABLE: Final = frozenset(("animal", "object", "job", "tree", "plant", "fruit", "vegetable", "gemstone", "vehicle"))
"""Kinds whose values want an article before them."""

_LISTS: Final = {
    kind: free_values(WORDS.get(kind, {}).get("train", ()) + MORE_WORDS.get(kind, ()))
    for kind in WORDS.keys() | MORE_WORDS.keys()
}
_STREETS: Final = ("Street", "Road", "Lane", "Avenue", "Square", "Alley", "Hill", "Court", "Terrace", "Way", "Row", "Drive")
NAMED: Final = ("person", "title", "petname", "street", "brand", "village", "password", "nickname", "surname", "shop", "team")


class Values:
    """Draws values of a kind, never one that belongs to the held-out split."""

    def __init__(self, rng: Random, namer: Namer) -> None:
        self._rng, self._namer = rng, namer
        self._reserved = reserved_values()

    def draw(self, kind: str) -> str:
        """A value of a kind: one of `kinds()`."""
        while True:
            value = self._draw(kind)
            if value.lower() not in self._reserved:
                return value

    def _draw(self, kind: str) -> str:
        rng = self._rng
        if kind in FIGURES:
            return FIGURES[kind](rng)
        if kind == "food":
            own = rng.random() < 0.35
            return rng.choice(_LISTS["food"]) if own else f"{rng.choice(INGREDIENTS)} {rng.choice(DISHES)}"
        if kind == "object":
            thing = rng.choice(_LISTS["object"])
            return f"{rng.choice(MODIFIERS)} {thing}" if rng.random() < 0.35 else thing
        if kind == "city" and rng.random() < 0.15:
            return self._namer.invented()
        return rng.choice(_LISTS[kind]) if kind in _LISTS else self._named(kind)

    def _named(self, kind: str) -> str:
        rng, namer = self._rng, self._namer
        match kind:
            case "person":
                return namer.person()
            case "title":
                return namer.title()
            case "street":
                number = f"{rng.randint(1, 240)} " if rng.random() < 0.5 else ""
                return f"{number}{namer.place_word()} {rng.choice(_STREETS)}"
            case "password":
                word = rng.choice(PASSWORD_WORDS) if rng.random() < 0.6 else namer.invented().lower()
                return word + rng.choice(("", "", str(rng.randint(2, 99)), "-" + rng.choice(PASSWORD_WORDS)))
            case "surname":
                return namer.last()
            case "petname" | "nickname":
                return rng.choice((namer.first(), namer.invented(1), rng.choice(PASSWORD_WORDS).capitalize()))
            case "shop":
                return namer.subject("company").name
            case "team":
                return namer.subject("club").name.removeprefix("the ")
            case _:
                return namer.invented()


def kinds() -> frozenset[str]:
    """All kinds that can be drawn."""
    return frozenset(FIGURES.keys() | _LISTS.keys() | set(NAMED))
