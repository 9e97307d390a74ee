"""Generated facts: a subject, a relation, a value, one sentence and one question. Knows neither torch nor models.

Within one ``FactMaker`` no subject meets a relation twice, so a question has exactly one right answer,
while names, relations and kinds of values recur all the time and make every other fact a decoy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, get_args

from mplus.corpus.about_people import ABOUT_PEOPLE
from mplus.corpus.about_things import ABOUT_THINGS
from mplus.corpus.cast import KINDS, Cast, Subject
from mplus.corpus.names import Split
from mplus.corpus.relation import Relation, worded
from mplus.corpus.values import NUMBERS, WORDS
from mplus.errors import InputError

__all__ = ["RELATIONS", "Fact", "FactMaker", "Split"]

RELATIONS: Final[tuple[Relation, ...]] = ABOUT_PEOPLE + ABOUT_THINGS
_RELATIONS_ABOUT: Final = {kind: tuple(r for r in RELATIONS if kind in r.subjects) for kind in KINDS}
_OPEN_SUBJECTS: Final = 8  # subjects with facts still to come: neighbouring facts share them


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that is so. ``value`` stands verbatim in ``statement`` and never in ``question``."""

    subject: str
    relation: str
    value: str
    statement: str
    question: str


@dataclass
class _OpenSubject:
    subject: Subject
    relations: list[Relation]  # those still to be told


class FactMaker:
    """Makes facts that never contradict each other, over any number of calls.

    Args:
        seed: the same seed, split and sequence of calls give the same facts.
        split: ``held_out`` shares no name and no word value with ``train`` and alone uses the reserved wordings.
        facts_per_subject: how many facts a subject gets on average, at least 1.

    Raises:
        InputError: unknown split or fewer than one fact per subject.
    """

    def __init__(self, seed: int, split: Split, *, facts_per_subject: float = 3.0) -> None:
        if split not in get_args(Split):
            raise InputError(f"split is '{split}', expected 'train' or 'held_out'")
        if not facts_per_subject >= 1:
            raise InputError(f"facts_per_subject is {facts_per_subject}, expected at least 1")
        self._rng = Random(f"mplus facts {split} {seed}")
        self._split: Split = split
        self._facts_per_subject = facts_per_subject
        self._cast = Cast(self._rng, split)
        self._open: list[_OpenSubject] = []

    def make(self, count: int) -> list[Fact]:
        """The next ``count`` facts.

        Raises:
            InputError: ``count`` is negative, or all names of the split are used up.
        """
        if count < 0:
            raise InputError(f"count of facts is {count}, expected 0 or more")
        return [self._next() for _ in range(count)]

    def _next(self) -> Fact:
        while len(self._open) < _OPEN_SUBJECTS:
            self._open.append(self._new_subject())
        told = self._rng.choice(self._open)
        relation = told.relations.pop()
        if not told.relations:
            self._open.remove(told)
        return self._tell(told.subject.name, relation)

    def _new_subject(self) -> _OpenSubject:
        subject = self._cast.subject()
        available = _RELATIONS_ABOUT[subject.kind]
        wanted = max(1, round(self._rng.uniform(0.5, 2 * self._facts_per_subject - 0.5)))
        return _OpenSubject(subject, self._rng.sample(available, min(wanted, len(available))))

    def _tell(self, subject: str, relation: Relation) -> Fact:
        statements, questions = relation.wordings(self._split)
        question = worded(self._rng.choice(questions), subject)
        value = self._value(relation.value, unlike=question)
        statement = worded(self._rng.choice(statements), subject, value)
        return Fact(subject=subject, relation=relation.name, value=value, statement=statement, question=question)

    def _value(self, kind: str, *, unlike: str) -> str:
        """A value of a kind that does not stand in the question already."""
        draw = self._draw_of(kind)
        value = draw()
        while value.lower() in unlike.lower():
            value = draw()
        return value

    def _draw_of(self, kind: str) -> Callable[[], str]:
        if kind == "person":
            return self._cast.person
        if kind == "title":
            return self._cast.title
        if kind in NUMBERS:
            return lambda: NUMBERS[kind](self._rng)
        return lambda: self._rng.choice(WORDS[kind][self._split])
