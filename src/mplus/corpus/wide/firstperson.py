"""Owners seen from the writer: my sister, my cousin Ada's cat, our second boat. Knows no values."""

from __future__ import annotations

from random import Random
from typing import Final

from mplus.corpus.wide import phrasing
from mplus.corpus.wide.naming import Namer

_RELATIVES: Final = tuple(
    " ".join(part.split())
    for part in """
    sister; brother; mother; father; grandmother; grandfather; aunt; uncle; cousin; niece; nephew; daughter; son; wife; husband; best friend;
    neighbour; boss; colleague; roommate; landlady; teacher; doctor; dentist; lawyer; tutor; coach; godmother; godson; stepbrother;
    mother-in-law; father-in-law; brother-in-law; sister-in-law; great-aunt; grandson; granddaughter; old schoolmate; pen friend; assistant;
    secretary; gardener; hairdresser; business partner; flatmate; twin sister; elder brother; younger sister; second cousin; first husband;
    fiancée; boyfriend; girlfriend; childhood friend; piano teacher; chess partner; running mate
    """.split(";")
)
_THINGS: Final = (
    ("cat", "pet"),
    ("dog", "pet"),
    ("horse", "pet"),
    ("parrot", "pet"),
    ("printer", "machine"),
    ("drone", "machine"),
)
MYSELF: Final = "me"
"""The writer as an owner; what is theirs is "my"."""
_OLD: Final = ("", "", "old ", "new ", "first ", "second ", "little ", "other ")
_TELL: Final = (
    "{O} {n} is {p}.",
    "{O} {n} is {p}.",
    "{O} {n} is {p}, in case you need it.",
    "I should mention that {o} {n} is {p}.",
    "I have just learned that {o} {n} is {p}.",
    "I keep forgetting that {o} {n} is {p}.",
    "Just so you know, {o} {n} is {p}.",
    "The {n} of {s} is {p}.",
    "{P} is {o} {n}.",
    "You asked about {s}: the {n} is {p}.",
    "Let me write this down: {o} {n} is {p}.",
    "For the record, {o} {n} is {p}.",
    "{S} told me that the {n} is {p}.",
    "I wrote {v} into the form as {o} {n}.",
)
_TELL_NAMED: Final = ("{O} {n} is called {v}.", "{O} {n} is named {v}.", "The name of {o} {n} is {v}.", "I met {o} {n}, {v}.")
_ASK_MYSELF: Final = ("What is {o} {n}?", "What was {o} {n} again?", "Do you remember {o} {n}?")
_NAMED: Final = frozenset(("person", "petname"))


class FirstPerson:
    """Draws owners and words what is told of them; asked as "my" or, now and then, as "your"."""

    def __init__(self, rng: Random, namer: Namer) -> None:
        self._rng, self._namer = rng, namer

    def owner(self) -> tuple[str, str, str]:
        """An owner such as "my cousin Ada", its kind (as in ``attributes``) and "my", which questions may replace."""
        rng = self._rng
        chance = rng.random()
        if chance < 0.1:
            return MYSELF, "person", "my"
        relative = rng.choice(_RELATIVES)
        named = f"{relative} {self._namer.first()}" if rng.random() < 0.4 else relative
        if chance < 0.7:
            return f"my {named}", "person", "my"
        thing, kind = rng.choice(_THINGS)
        if chance < 0.9:
            return f"{phrasing.own(f'my {named}')} {rng.choice(_OLD)}{thing}", kind, "my"
        return f"our {rng.choice(_OLD)}{thing} {self._namer.first()}", kind, "our"

    def wordings(
        self, owner: str, mine: str, nouns: tuple[str, str], value: str, kind: str, *, countable: bool
    ) -> tuple[str, str]:
        """Statement and question about an owner; `nouns`: the word told and the word asked."""
        rng = self._rng
        telling: tuple[str, ...] = _TELL_NAMED if kind in _NAMED and rng.random() < 0.6 else _TELL
        if owner == MYSELF:
            telling = tuple(form for form in telling if "{s}" not in form and "{S}" not in form)
        statement = phrasing.filled(rng.choice(telling), subject=owner, noun=nouns[0], value=value, countable=countable)
        special = phrasing.ASK_BY_KIND.get(kind)
        asking: tuple[str, ...] = special if special and rng.random() < 0.5 else phrasing.ASK
        if owner == MYSELF:
            asking = tuple(form for form in asking if "{s}" not in form and "{S}" not in form) or _ASK_MYSELF
        asked = owner.replace(mine, "your", 1) if rng.random() < 0.1 else owner
        return phrasing.capital(statement), phrasing.filled(rng.choice(asking), subject=asked, noun=nouns[1])
