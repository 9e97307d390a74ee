"""Names without end for people and things to train on, many of them alike on purpose. Knows nothing of relations or facts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from random import Random
from typing import Final

from mplus.corpus.word_lists import Table, Words

RELATION_KINDS: Final = ("person", "place", "ship", "club", "company", "novel")
OTHER_KINDS: Final = ("village", "project", "event", "machine", "pet", "vehicle_line")
_INVENTED_SHARE: Final = 0.5
_ALIKE_SHARE: Final = 0.5
_RECENT: Final = 24
_INITIALS: Final = "ABCDEFGHJKLMNPRSTVWZ"
_SMALLEST_SHARE: Final = 0.2


class NameWords(Table):
    """The words that names of one split are made of."""

    first: Words
    last: Words
    words: Words  # of places
    buildings: Words
    clubs: Words
    trades: Words
    adjectives: Words  # of titles
    nouns: Words  # of titles


class HeldOutNameWords(NameWords):
    """The words of the held-out split, with names that nobody bears."""

    invented_first: Words
    invented_last: Words


class _Style(Table):
    """A language that is none: what a syllable begins with, its vowels, what it ends in, and how words end."""

    begins: Words
    vowels: Words
    codas: Words
    ends: Words


class NameTable(Table):
    """All words of names."""

    train: NameWords
    held_out: HeldOutNameWords
    machines: Words
    events: Words
    pets: Words
    vehicle_lines: Words
    village_ends: Words
    particles: Words
    titles: Words
    styles: dict[str, _Style]


NAMES: Final = NameTable.read("names")


@dataclass(frozen=True)
class NamePool:
    """Words to draw names from.

    Attributes:
        invented: how many invented words there are; None: without end.
    """

    first: Words = NAMES.train.first
    last: Words = NAMES.train.last
    words: Words = NAMES.train.words
    buildings: Words = NAMES.train.buildings
    clubs: Words = NAMES.train.clubs
    trades: Words = NAMES.train.trades
    adjectives: Words = NAMES.train.adjectives
    nouns: Words = NAMES.train.nouns
    invented: int | None = None

    def randomness(self) -> Random:
        """A generator of random numbers that is the pool's own; its seed never changes, so that training can be repeated."""
        parts = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return Random(f"Pools({parts})")


def confusable_pool(rng: Random) -> NamePool:
    """Few words, drawn at random, so that names share parts everywhere: many ships called Tiger, many people called Ada.

    A held-out stream of 200,000 tokens is such a pool at its largest (25 adjectives for a hundred ships and novels); a memory bank
    is shorter, and needs fewer words to be as full of hard negatives.
    """
    share = _SMALLEST_SHARE ** rng.random()  # even on a logarithmic scale

    def some(words: Words, count: int) -> Words:
        return tuple(rng.sample(words, max(4, round(count * share))))

    return NamePool(
        first=some(NAMES.train.first, 75),
        last=some(NAMES.train.last, 93),
        words=some(NAMES.train.words, 24),
        buildings=some(NAMES.train.buildings, 8),
        clubs=some(NAMES.train.clubs, 6),
        trades=some(NAMES.train.trades, 8),
        adjectives=some(NAMES.train.adjectives, 25),
        nouns=some(NAMES.train.nouns, 27),
        invented=max(4, round(28 * share)),
    )


def reserved_name_words() -> frozenset[str]:
    """Lower-case parts of held-out names, which training never sees; a phrase such as "Running Club" counts as a whole."""
    held_out = NAMES.held_out
    return frozenset(word.lower() for name in HeldOutNameWords.model_fields for word in getattr(held_out, name))


_RESERVED: Final = reserved_name_words()


@dataclass(frozen=True)
class Subject:
    """Somebody or something facts are about: its kind and how it is written within a sentence."""

    kind: str
    name: str


class NameGenerator:
    """Draws names; half of them share a part with a recent name of their kind."""

    def __init__(self, rng: Random, pool: NamePool | None = None) -> None:
        self._rng = rng
        self._pool = pool or NamePool()
        self._recent: dict[str, deque[tuple[str, str]]] = {}
        self._invented: Words = ()
        if self._pool.invented is not None:
            own = self._pool.randomness()
            self._invented = tuple(_invented(own) for _ in range(self._pool.invented))

    def subject(self, kind: str) -> Subject:
        """A name of a kind; nothing keeps it from having been drawn before, but there are millions."""
        first, second = self._pair(kind)
        return Subject(kind, self._full_name(kind, first, second))

    def person(self) -> str:
        """A person's name as a value, plainer than a subject's."""
        return " ".join(self._pair("person"))

    def title(self) -> str:
        """A title of a book, film or song."""
        first, second = self._pair("novel")
        return self._rng.choice((f"{first} {second}", f"The {first} {second}", f"{second} of {self.place_word()}"))

    def invented(self, syllables: int = 0) -> str:
        """A capitalised word that means nothing, of one style."""
        return _invented(self._rng, syllables)

    def first(self) -> str:
        """A given name, real or invented."""
        return self._invented_name() if self._rng.random() < _INVENTED_SHARE * 0.8 else self._rng.choice(self._pool.first)

    def last(self) -> str:
        """A surname, real or invented, sometimes double or with a particle."""
        name = self._invented_name() if self._rng.random() < _INVENTED_SHARE else self._rng.choice(self._pool.last)
        chance = self._rng.random()
        if chance < 0.05:
            particle = self._rng.choice(NAMES.particles)
            return particle + name if particle in ("Mac", "O'", "D'") else f"{particle} {name}"
        return f"{name}-{self._rng.choice(self._pool.last)}" if chance < 0.10 else name

    def place_word(self) -> str:
        """A word that houses, streets and villages are called by."""
        return self._invented_name() if self._rng.random() < _INVENTED_SHARE else self._rng.choice(self._pool.words)

    def _invented_name(self) -> str:
        """An invented word, one of the pool's where it has its own."""
        return self._rng.choice(self._invented) if self._invented else self.invented()

    def _pair(self, kind: str) -> tuple[str, str]:
        """Two parts of a name, at random or one of them from a recent name."""
        pair = self._new_pair(kind)
        recent = self._recent.setdefault(kind, deque(maxlen=_RECENT))
        if recent and self._rng.random() < _ALIKE_SHARE:
            earlier = self._rng.choice(recent)
            pair = (earlier[0], pair[1]) if self._rng.random() < 0.5 else (pair[0], earlier[1])
        recent.append(pair)
        return pair

    def _new_pair(self, kind: str) -> tuple[str, str]:
        choice, pool = self._rng.choice, self._pool
        match kind:
            case "person":
                return self.first(), self.last()
            case "ship" | "novel":
                return choice(pool.adjectives), choice(pool.nouns)
            case "place":
                return choice((self.place_word, self.place_word, self.last))(), choice(pool.buildings)
            case "club":
                return self.place_word(), choice(pool.clubs)
            case "company":
                return choice((self.last, self.last, self.place_word))(), choice(pool.trades)
            case "event":
                return self.place_word(), choice(NAMES.events)
            case "machine":
                machine, word = choice(NAMES.machines), self.invented()
                return machine, choice((word, f"{choice('ABDFHKMRTX')}{self._rng.randint(1, 99)}", choice(pool.words)))
            case "pet":
                return choice(NAMES.pets), self.first()
            case "vehicle_line":
                line = choice(NAMES.vehicle_lines)
                return line, f"{choice('ABCDKLMRST')}{choice('AEFGLMNRS')} {self._rng.randint(11, 990)}"
            case "project":
                return "Project", self.place_word()
            case _:
                return self.invented(), choice(NAMES.village_ends)

    def _full_name(self, kind: str, first: str, second: str) -> str:
        match kind:
            case "person":
                return self._person(first, second)
            case "place" | "club" | "event" | "machine" | "pet":
                return f"the {first} {second}"
            case "company" | "project" | "vehicle_line":
                return f"{first} {second}"
            case "ship" | "novel":
                chance = self._rng.random()
                if chance < 0.6:
                    return f"the {kind} {first} {second}"
                return f"the {kind} {self.place_word()} {second}" if chance < 0.8 else f"the {kind} {self.invented()}"
            case _:
                return f"{first}{second}"

    def _person(self, first: str, last: str) -> str:
        choice = self._rng.choice
        chance = self._rng.random()
        if chance < 0.66:
            return f"{first} {last}"
        if chance < 0.72:
            return f"{first} {choice(_INITIALS)}. {last}"
        if chance < 0.76:
            return f"{choice(_INITIALS)}. {choice(_INITIALS)}. {last}"
        if chance < 0.86:
            return f"{choice(NAMES.titles)} {choice((last, f'{first} {last}'))}"
        if chance < 0.91:
            return f"{first} {self.first()} {last}"
        return first if chance < 0.95 else f"{first} of {self.invented()}"


def _invented(rng: Random, syllables: int = 0) -> str:
    while True:
        style = NAMES.styles[rng.choice(tuple(NAMES.styles))]
        word = ""
        for _ in range(syllables or rng.choice((1, 1, 2))):
            word += rng.choice(style.begins) + rng.choice(style.vowels) + rng.choice(style.codas)
        if rng.random() < 0.7:
            word += rng.choice(style.ends)
        if 3 <= len(word) <= 11 and word not in _RESERVED:
            return word.capitalize()
