"""Held-out people and what is said of them, for generated tasks: names, relations, values and wordings that training never sees. Knows no tokens."""

from __future__ import annotations

from random import Random
from typing import Final

from mplus.corpus.held_out import NUMBERS
from mplus.corpus.names import NAMES
from mplus.corpus.phrasing import fill
from mplus.corpus.relations import RELATIONS, Relation
from mplus.corpus.values import VALUES

_NAMES: Final = NAMES.held_out
FIRST, LAST = (*_NAMES.first, *_NAMES.invented_first), (*_NAMES.last, *_NAMES.invented_last)
"""Given names and surnames that training never sees."""

_TOLD_OF_PEOPLE: Final = (
    "birthplace", "holiday", "locker_code", "phone_extension", "member_number", "dish", "drink", "pet", "job", "instrument", "inheritance",
    "language", "hobby", "train_time", "birthday", "subject_studied",
)  # fmt: skip
PERSONAL: Final[tuple[Relation, ...]] = tuple(
    one for one in RELATIONS if "person" in one.subjects and one.name in _TOLD_OF_PEOPLE
)
"""Relations of a person to a word or a number, no two of which ask for nearly the same."""


def names(rng: Random, count: int) -> list[str]:
    """Different names of people."""
    places = rng.sample(range(len(FIRST) * len(LAST)), count)
    return [f"{FIRST[place % len(FIRST)]} {LAST[place // len(FIRST)]}" for place in places]


def value(rng: Random, kind: str) -> str:
    """A held-out value of a kind."""
    return NUMBERS[kind](rng) if kind in NUMBERS else rng.choice(VALUES.words[kind].held_out)


def values(rng: Random, kind: str, count: int) -> list[str]:
    """So many different ones; a kind of fewer words is gone through again, so that neighbours always differ."""
    if kind not in NUMBERS:
        words, found = VALUES.words[kind].held_out, list[str]()
        while len(found) < count:
            again = rng.sample(words, len(words))
            found += again if not found or again[0] != found[-1] else again[1:]
        return found[:count]
    made = dict.fromkeys(value(rng, kind) for _ in range(count))
    while len(made) < count:
        made[value(rng, kind)] = None
    return list(made)


def statement(rng: Random, relation: Relation, subject: str, value: str) -> str:
    """A sentence that says it, in a wording of the held-out split."""
    return fill(rng.choice(relation.statements.of("held_out")), subject, value)


def question(rng: Random, relation: Relation, subject: str) -> str:
    """A question for it."""
    return fill(rng.choice(relation.questions.of("held_out")), subject)
