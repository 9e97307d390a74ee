"""The families of RULER: how a text of a given length is made, and what is asked about it. Knows tokens, no files and no model.

Made from the paper's description (arXiv 2404.06654, section 3 and appendix B): its parameters, our own wording.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Final
from uuid import UUID

from mplus.corpus.passages import Passage, PassageQuestion
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import Span, Unit
from mplus.evaluation.tasks.haystack import Haystack, laid
from mplus.evaluation.word_lists import word_lists

NEEDLES: Final = 4
"""Keys, values or queries where there are several."""
HOPS: Final = 4
COMMON_WORDS: Final = 10
COMMON_TIMES: Final = 30
UNCOMMON_TIMES: Final = 3
FREQUENT_WORDS: Final = 3
ALPHA: Final = 2.0

_FEW_KEYS: Final = 4000  # so many can be told apart by one adjective
_NOISE: Final = "The river is wide. The road is dry. The lamp is lit. On we walk. Home we come."
_WORDS: Final = word_lists(__file__)


@dataclass(frozen=True)
class Made:
    """A text in sentences, what is asked at its end, all that must be named, and where that stands."""

    units: list[Unit]
    question: str
    answers: tuple[str, ...]
    span: Span


@dataclass(frozen=True, kw_only=True)
class Kit:
    """Parts that a family makes a text of.

    Attributes:
        number: of the sample; kinds of one family take turns.
        tokens: of the text at most.
        asked: for ``qa``: question and its passage; ``passages`` are those that may stand around it.
    """

    haystack: Haystack
    rng: Random
    number: int
    tokens: int
    passages: Sequence[Passage] = ()
    asked: tuple[Passage, PassageQuestion] | None = None
    used: set[str] = field(default_factory=set)

    def encode(self, text: str) -> list[int]:
        """Token ids."""
        return self.haystack.context.encode(text)

    def key(self, kind: str) -> str:
        """One that was not drawn before: "word" (adjective and noun), "number" of seven digits, or "uuid"."""
        while True:
            if kind == "word":
                adjectives = self.rng.choices(_WORDS["adjectives"], k=1 if len(self.used) < _FEW_KEYS else 2)
                drawn = "-".join([*adjectives, self.rng.choice(_WORDS["nouns"])])
            elif kind == "number":
                drawn = str(self.rng.randrange(1_000_000, 10_000_000))
            else:
                drawn = str(UUID(int=self.rng.getrandbits(128), version=4))
            if drawn not in self.used:
                self.used.add(drawn)
                return drawn

    def scattered(self, statements: Sequence[str], filler: str) -> tuple[list[Unit], list[Span]]:
        """Statements in their order at random places of a filler: "essay" (the haystack), "noise" or "needles"."""
        between = " " if filler == "essay" else "\n"
        ids = [self.encode(between + statement) for statement in statements]
        room = self.tokens - sum(map(len, ids))
        units = self.haystack.sentences(self.rng, room) if filler == "essay" else self._lines(filler, room)
        if not units:
            raise InputError(f"{self.tokens} tokens leave no room for text around what is asked about; name larger lengths")
        places = sorted(self.rng.choices(range(1, len(units) + 1), k=len(ids)))
        return laid(units, list(zip(places, ids, strict=True)))

    def _lines(self, filler: str, room: int) -> list[Unit]:
        """Lines of noise, or of needles nobody asks for (whose keys and values are both words and numbers, or both UUIDs)."""
        found: list[Unit] = []
        while True:
            if filler == "noise":
                text = _NOISE
            elif filler == "uuid needles":
                text = _stored("code", self.key("uuid"), self.key("uuid"))
            else:
                text = _stored("number", self.key("word"), self.key("number"))
            ids = self.encode(text if not found else "\n" + text)
            if len(ids) > room:
                return found
            found.append(Unit(ids=ids))
            room -= len(ids)


def _stored(name: str, key: str, value: str) -> str:
    return f"A {name} kept under {key} is {value}."


def _around(spans: Sequence[Span]) -> Span:
    return min(start for start, _ in spans), max(end for _, end in spans)


def niah_single(kit: Kit) -> Made:
    """One needle; noise or running text around it, a number or a UUID kept under a word."""
    filler, name, kind = (("noise", "number", "number"), ("essay", "number", "number"), ("essay", "code", "uuid"))[kit.number % 3]
    key, value = kit.key("word"), kit.key(kind)
    units, spans = kit.scattered([_stored(name, key, value)], filler)
    return Made(units, f"Which {name} is kept under {key}?", (value,), spans[0])


def niah_multikey(kit: Kit) -> Made:
    """One needle among others with other keys: four in running text, or nothing but needles."""
    filler, name, kinds, others = (
        ("essay", "number", ("word", "number"), NEEDLES - 1),
        ("needles", "number", ("word", "number"), 0),
        ("uuid needles", "code", ("uuid", "uuid"), 0),
    )[kit.number % 3]
    pairs = [(kit.key(kinds[0]), kit.key(kinds[1])) for _ in range(1 + others)]
    asked = kit.rng.randrange(len(pairs))
    units, spans = kit.scattered([_stored(name, *pair) for pair in pairs], filler)
    return Made(units, f"Which {name} is kept under {pairs[asked][0]}?", (pairs[asked][1],), spans[asked])


def niah_multivalue(kit: Kit) -> Made:
    """Several values of one key."""
    key, values = kit.key("word"), tuple(kit.key("number") for _ in range(NEEDLES))
    units, spans = kit.scattered([_stored("number", key, value) for value in values], "essay")
    return Made(units, f"Which {NEEDLES} numbers are kept under {key}? Name all of them.", values, _around(spans))


def niah_multiquery(kit: Kit) -> Made:
    """Several keys asked for at once."""
    pairs = [(kit.key("word"), kit.key("number")) for _ in range(NEEDLES)]
    units, spans = kit.scattered([_stored("number", *pair) for pair in pairs], "essay")
    keys = [key for key, _ in pairs]
    listed = f"{', '.join(keys[:-1])} and {keys[-1]}"
    question = f"Which numbers are kept under {listed}? Name all of them."
    return Made(units, question, tuple(value for _, value in pairs), _around(spans))


def vt(kit: Kit) -> Made:
    """A value handed from variable to variable."""
    names: list[str] = []
    while len(names) <= HOPS:
        name = "".join(kit.rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=5))
        if name not in names:
            names.append(name)
    value = str(kit.rng.randrange(10_000, 100_000))
    lines = [f"Variable {names[0]} gets the value {value}."]
    lines += [f"Variable {name} gets the value of {before}." for before, name in pairwise(names)]
    units, spans = kit.scattered(lines, "noise")
    question = f"Which {len(names)} variables have the value {value}, directly or through others? Name all of them."
    return Made(units, question, tuple(names), _around(spans))


def cwe(kit: Kit) -> Made:
    """A numbered list of words; ten of them stand in it far more often than the others."""
    opening = kit.encode("This is a numbered list of words.")
    words = sorted(set(re.findall(r"\b[a-z]{3,12}\b", kit.haystack.text)))
    kit.rng.shuffle(words)
    common = _unlike(words)
    listed = [word for word in common for _ in range(COMMON_TIMES)]
    room = kit.tokens - len(opening) - COMMON_TIMES * sum(_entries_tokens(kit, word, ()) for word in common)
    room -= _entries_tokens(kit, "", range(1, len(listed) + 1))
    if room < 0 or len(common) < COMMON_WORDS:
        raise InputError(f"a list of common words does not fit into {short(kit.tokens)} tokens; name lengths of 4k or more")
    rare = iter(word for word in words if word not in common)
    while True:
        if (word := next(rare, None)) is None:
            raise InputError(
                f"the haystack has too few different words for a list of {short(kit.tokens)} tokens; "
                "give a longer text with --haystack FILE, or name smaller lengths"
            )
        places = range(len(listed) + 1, len(listed) + 1 + UNCOMMON_TIMES)
        room -= UNCOMMON_TIMES * _entries_tokens(kit, word, ()) + _entries_tokens(kit, "", places)
        if room < 0:
            break
        listed += [word] * UNCOMMON_TIMES
    kit.rng.shuffle(listed)
    entries = [Unit(ids=[*kit.encode(f" {place}."), *kit.encode(f" {word}")]) for place, word in enumerate(listed, 1)]
    return _whole([Unit(ids=opening), *entries], f"Which {COMMON_WORDS} words are most common in the list?", common)


def _unlike(words: Sequence[str]) -> list[str]:
    """The first words none of which stands in another: an answer that names one must not count for two."""
    found: list[str] = []
    for word in words:
        if len(found) < COMMON_WORDS and len(word) > 3 and not any(word in other or other in word for other in found):
            found.append(word)
    return found


def _entries_tokens(kit: Kit, word: str, places: Iterable[int]) -> int:
    """Tokens of a word in the list, and of numbers before words."""
    return (len(kit.encode(f" {word}")) if word else 0) + sum(len(kit.encode(f" {place}.")) for place in places)


def fwe(kit: Kit) -> Made:
    """Made-up words whose frequencies follow a zeta distribution; the most frequent entry is noise."""
    opening = kit.encode("This is a text of coded words; dots have no meaning.")
    room = kit.tokens - len(opening)
    words = ["..."]
    while len(words) < 2 + math.isqrt(room):  # rarer ranks would not occur once
        word = "".join(kit.rng.choice("bdfgklmnprstvz") + kit.rng.choice("aeiou") for _ in range(3))
        if word not in words:
            words.append(word)
    costs = [len(kit.encode(f" {word}")) for word in words]
    low, high = 1, room
    while low < high:  # the most entries whose tokens fit
        middle = (low + high + 1) // 2
        fits = sum(times * cost for times, cost in zip(_zeta(middle, len(words)), costs, strict=True)) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    listed = [word for word, times in zip(words, _zeta(low, len(words)), strict=True) for _ in range(times)]
    kit.rng.shuffle(listed)
    units = [Unit(ids=opening), *(Unit(ids=kit.encode(f" {word}")) for word in listed)]
    question = f"Which {FREQUENT_WORDS} coded words, apart from the dots, are most frequent in the text?"
    return _whole(units, question, words[1 : 1 + FREQUENT_WORDS])


def _zeta(entries: int, ranks: int) -> list[int]:
    """How often each rank occurs among so many entries."""
    norm = math.pi**2 / 6  # the zeta function at ALPHA = 2
    return [round(entries * rank**-ALPHA / norm) for rank in range(1, ranks + 1)]


def _whole(units: list[Unit], question: str, answers: Sequence[str]) -> Made:
    return Made(units, question, tuple(answers), (0, sum(len(unit.ids) for unit in units)))


def qa(kit: Kit) -> Made:
    """A passage with a question among other passages."""
    assert kit.asked is not None
    right, asked = kit.asked
    others = [one for one in kit.passages if one.text != right.text]
    kit.rng.shuffle(others)
    units_of = kit.haystack.context.units
    room = kit.tokens - sum(len(unit.ids) for unit in units_of(right.text))
    texts: list[list[Unit]] = []
    for other in others:
        units = units_of(other.text)
        room -= sum(len(unit.ids) for unit in units)
        if room < 0:
            break
        texts.append(units)
    if room >= 0:
        raise InputError(
            f"the passages are too few for a text of {short(kit.tokens)} tokens; give a larger SQuAD file with --data FILE"
        )
    place = kit.rng.randint(0, len(texts))
    texts.insert(place, units_of(right.text))
    texts[0] = units_of(right.text if place == 0 else others[0].text, starts_paragraph=False)
    start = sum(len(unit.ids) for units in texts[:place] for unit in units)
    span = (start, start + sum(len(unit.ids) for unit in texts[place]))
    shortest = min(asked.answers, key=len)
    return Made([unit for units in texts for unit in units], f"{asked.text} Answer with a few words.", (shortest,), span)


FAMILIES: Final[dict[str, Callable[[Kit], Made]]] = {
    one.__name__: one for one in (niah_single, niah_multikey, niah_multivalue, niah_multiquery, vt, cwe, fwe, qa)
}
