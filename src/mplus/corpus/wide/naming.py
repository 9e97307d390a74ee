"""Names without end for people and things, many of them alike on purpose. Knows nothing of relations or facts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.wide.given import PARTICLES, STYLES, TITLES
from mplus.corpus.wide.pools import EVENTS, MACHINES, Pools
from mplus.corpus.wide.reserved import reserved_name_words

RELATION_KINDS: Final = ("person", "place", "ship", "club", "company", "novel")
OTHER_KINDS: Final = ("village", "project", "event", "machine", "pet", "vehicle_line")
_INVENTED_SHARE: Final = 0.5
_ALIKE_SHARE: Final = 0.5
_RECENT: Final = 24


_VILLAGE_ENDS: Final = (
    *("", "", "", "ton", "ville", "burg", "stad", "by", "ford", "mouth", "grad", "dorf", "holm", "field", "wick"),
    *(" Bay", " Hills", " Falls", " Point", " Island", " Heights", " Cove", "-on-Sea", " Springs", " Crossing", " Lake"),
)
_PETS: Final = (
    "cat",
    "dog",
    "parrot",
    "horse",
    "tortoise",
    "rabbit",
    "goat",
    "hamster",
    "donkey",
    "goldfish",
    "pony mare",
    "mule",
)


@dataclass(frozen=True)
class Named:
    """Somebody or something: what it is and how it is written within a sentence."""

    kind: str
    name: str


class Namer:
    """Draws names; half of them share a part with a recent name of their kind.

    Args:
        pools: the words they are made of.
    """

    def __init__(self, rng: Random, pools: Pools | None = None) -> None:
        self._rng = rng
        self._pools = pools or Pools()
        self._recent: dict[str, deque[tuple[str, str]]] = {}
        self._reserved = reserved_name_words()
        self._invented: tuple[str, ...] = ()
        if self._pools.invented is not None:
            own = Random(repr(self._pools))  # the world's, whoever draws from it
            self._invented = tuple(self._made_up(own) for _ in range(self._pools.invented))

    def subject(self, kind: str) -> Named:
        """A name of a kind; nothing keeps it from having been drawn before, but there are millions."""
        first, second = self._pair(kind)
        return Named(kind, self._written(kind, first, second))

    def person(self) -> str:
        """A person's name as a value, plainer than a subject's."""
        first, second = self._pair("person")
        return f"{first} {second}"

    def title(self) -> str:
        """A title of a book, film or song."""
        first, second = self._pair("novel")
        return self._rng.choice((f"{first} {second}", f"The {first} {second}", f"{second} of {self.place_word()}"))

    def invented(self, syllables: int = 0) -> str:
        """A capitalised word that means nothing, of one style."""
        return self._made_up(self._rng, syllables)

    def _made_up(self, rng: Random, syllables: int = 0) -> str:
        while True:
            begins, vowels, codas, ends = (part.split() for part in STYLES[rng.choice(tuple(STYLES))])
            word = ""
            for _ in range(syllables or rng.choice((1, 1, 2))):
                word += rng.choice(begins) + rng.choice(vowels) + rng.choice(codas).strip("-")
            if rng.random() < 0.7:
                word += rng.choice(ends)
            if 3 <= len(word) <= 11 and word not in self._reserved:
                return word.capitalize()

    def first(self) -> str:
        """A given name, real or invented."""
        return self._name_word() if self._rng.random() < _INVENTED_SHARE * 0.8 else self._rng.choice(self._pools.first)

    def last(self) -> str:
        """A surname, real or invented, sometimes double or with a particle."""
        name = self._name_word() if self._rng.random() < _INVENTED_SHARE else self._rng.choice(self._pools.last)
        chance = self._rng.random()
        if chance < 0.05:
            particle = self._rng.choice(PARTICLES)
            return particle + name if particle in ("Mac", "O'", "D'") else f"{particle} {name}"
        return f"{name}-{self._rng.choice(self._pools.last)}" if chance < 0.10 else name

    def place_word(self) -> str:
        """A word that houses, streets and villages are called by."""
        return self._name_word() if self._rng.random() < _INVENTED_SHARE else self._rng.choice(self._pools.words)

    def _name_word(self) -> str:
        """An invented word, one of the world's where it has its own."""
        return self._rng.choice(self._invented) if self._invented else self.invented()

    def _pair(self, kind: str) -> tuple[str, str]:
        """Two parts of a name, at random or one of them from a recent name."""
        pair = self._fresh(kind)
        recent = self._recent.setdefault(kind, deque(maxlen=_RECENT))
        if recent and self._rng.random() < _ALIKE_SHARE:
            seen = self._rng.choice(recent)
            pair = (seen[0], pair[1]) if self._rng.random() < 0.5 else (pair[0], seen[1])
        recent.append(pair)
        return pair

    def _fresh(self, kind: str) -> tuple[str, str]:
        choice, pools = self._rng.choice, self._pools
        match kind:
            case "person":
                return self.first(), self.last()
            case "ship" | "novel":
                return choice(pools.adjectives), choice(pools.nouns)
            case "place":
                return choice((self.place_word, self.place_word, self.last))(), choice(pools.buildings)
            case "club":
                return self.place_word(), choice(pools.clubs)
            case "company":
                return choice((self.last, self.last, self.place_word))(), choice(pools.trades)
            case "event":
                return self.place_word(), choice(EVENTS)
            case "machine":
                return choice(MACHINES), choice(
                    (self.invented(), f"{choice('ABDFHKMRTX')}{self._rng.randint(1, 99)}", choice(pools.words))
                )
            case "pet":
                return choice(_PETS), self.first()
            case "vehicle_line":
                return choice(
                    ("flight", "train", "bus", "ferry", "tram")
                ), f"{choice('ABCDKLMRST')}{choice('AEFGLMNRS')} {self._rng.randint(11, 990)}"
            case "project":
                return "Project", self.place_word()
            case _:
                return self.invented(), choice(_VILLAGE_ENDS)

    def _written(self, kind: str, first: str, second: str) -> str:
        match kind:
            case "person":
                return self._person(first, second)
            case "place" | "club" | "event":
                return f"the {first} {second}"
            case "company" | "project":
                return f"{first} {second}"
            case "ship" | "novel":
                named = self._rng.random()
                if named < 0.6:
                    return f"the {kind} {first} {second}"
                return f"the {kind} {self.place_word()} {second}" if named < 0.8 else f"the {kind} {self.invented()}"
            case "machine" | "pet" | "vehicle_line":
                return f"the {first} {second}" if kind != "vehicle_line" else f"{first} {second}"
            case _:
                return f"{first}{second}"

    def _person(self, first: str, last: str) -> str:
        choice = self._rng.choice
        chance = self._rng.random()
        if chance < 0.66:
            return f"{first} {last}"
        if chance < 0.72:
            return f"{first} {choice('ABCDEFGHJKLMNPRSTVWZ')}. {last}"
        if chance < 0.76:
            return f"{choice('ABCDEFGHJKLMNPRSTVWZ')}. {choice('ABCDEFGHJKLMNPRSTVWZ')}. {last}"
        if chance < 0.86:
            return f"{choice(TITLES)} {choice((last, f'{first} {last}'))}"
        if chance < 0.91:
            return f"{first} {self.first()} {last}"
        if chance < 0.95:
            return first
        return f"{first} of {self.invented()}"
