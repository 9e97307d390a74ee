"""Facts to measure with, of names, values and wordings that training never sees. Knows neither torch nor models.

No subject meets a relation twice, so a question has exactly one right answer, while names, relations and kinds of values recur all
the time and make every other fact a hard negative. Published figures were measured on them: what a seed gives never changes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.facts import Fact
from mplus.corpus.names import NAMES, RELATION_KINDS, Subject
from mplus.corpus.numbers import MONTHS
from mplus.corpus.phrasing import fill
from mplus.corpus.relations import Relation, relations_about
from mplus.corpus.values import VALUES
from mplus.errors import InputError

__all__ = ["HeldOutFacts"]

_RELATIONS_ABOUT: Final = relations_about(RELATION_KINDS)
_OPEN_SUBJECTS: Final = 8  # subjects with facts still to come: neighbouring facts share them
_KIND_WEIGHTS: Final = (52, 14, 8, 8, 10, 8)
_NAME_FORMS: Final = ("{} {}", "the {} {}", "the ship {} {}", "the {} {}", "{} {}", "the novel {} {}")
_INVENTED_SHARE: Final = 0.2
_ALIKE_SHARE: Final = 0.6
_RECENT_NAMES: Final = 32
_TRIES: Final = 40

# Every value of one of these kinds has the same length or form, so that none contains another.
NUMBERS: Final = {
    "number3": lambda rng: str(rng.randint(100, 999)),
    "number4": lambda rng: str(rng.randint(1000, 9999)),
    "number5": lambda rng: str(rng.randint(10_000, 99_999)),
    "year": lambda rng: str(rng.randint(1702, 2019)),
    "date": lambda rng: f"{rng.randint(10, 28)} {rng.choice(MONTHS)}",
    "time": lambda rng: f"{rng.randint(10, 22)}:{rng.randint(0, 59):02d}",
}


@dataclass
class _OpenSubject:
    subject: Subject
    relations: list[Relation]  # those still to come


class HeldOutFacts:
    """Makes facts that never contradict each other, over any number of calls.

    Args:
        seed: the same seed and sequence of calls give the same facts.
        facts_per_subject: how many facts a subject gets on average, at least 1.

    Raises:
        InputError: fewer than one fact per subject.
    """

    def __init__(self, seed: int, *, facts_per_subject: float = 3.0) -> None:
        if not facts_per_subject >= 1:
            raise InputError(f"facts_per_subject is {facts_per_subject}, expected at least 1")
        self._rng = Random(f"mplus facts held_out {seed}")
        self._facts_per_subject = facts_per_subject
        self._names = _EntityPool(self._rng)
        self._open: list[_OpenSubject] = []

    def make(self, count: int) -> list[Fact]:
        """The next ``count`` facts.

        Raises:
            InputError: ``count`` is negative, or all names are used up.
        """
        if count < 0:
            raise InputError(f"count of facts is {count}, expected 0 or more")
        return [self._next() for _ in range(count)]

    def _next(self) -> Fact:
        while len(self._open) < _OPEN_SUBJECTS:
            self._open.append(self._new_subject())
        chosen = self._rng.choice(self._open)
        relation = chosen.relations.pop()
        if not chosen.relations:
            self._open.remove(chosen)
        return self._fact(chosen.subject.name, relation)

    def _new_subject(self) -> _OpenSubject:
        subject = self._names.subject()
        available = _RELATIONS_ABOUT[subject.kind]
        wanted = max(1, round(self._rng.uniform(0.5, 2 * self._facts_per_subject - 0.5)))
        return _OpenSubject(subject, self._rng.sample(available, min(wanted, len(available))))

    def _fact(self, subject: str, relation: Relation) -> Fact:
        question = fill(self._rng.choice(relation.questions.of("held_out")), subject)
        value = self._value(relation.value)
        while value.lower() in question.lower():
            value = self._value(relation.value)
        statement = fill(self._rng.choice(relation.statements.of("held_out")), subject, value)
        return Fact(subject=subject, relation=relation.name, value=value, statement=statement, question=question)

    def _value(self, kind: str) -> str:
        if kind == "person":
            return self._names.person()
        if kind == "title":
            return self._names.title()
        return NUMBERS[kind](self._rng) if kind in NUMBERS else self._rng.choice(VALUES.words[kind].held_out)


class _EntityPool:
    """Draws subjects and names of people; a subject never comes twice.

    Three names in five share one word with a recent name: the same given name with another surname,
    the same surname with another given name, two houses called Cedar, two bridges.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._used: set[str] = set()
        self._recent: dict[str, deque[tuple[str, str]]] = {kind: deque(maxlen=_RECENT_NAMES) for kind in RELATION_KINDS}

    def subject(self) -> Subject:
        """A subject never returned before.

        Raises:
            InputError: no unused name is left.
        """
        for kind in self._rng.choices(RELATION_KINDS, _KIND_WEIGHTS, k=_TRIES):
            words = self._words(kind, alike=self._rng.random() < _ALIKE_SHARE)
            name = _NAME_FORMS[RELATION_KINDS.index(kind)].format(*words)
            if name not in self._used:
                self._used.add(name)
                self._recent[kind].append(words)
                return Subject(kind, name)
        raise InputError(
            f"no unused names are left in split 'held_out' after {len(self._used)} subjects; "
            "make fewer facts with one HeldOutFacts, or raise facts_per_subject"
        )

    def person(self) -> str:
        """The name of a person as a value; it may return later and often resembles a subject's."""
        return " ".join(self._words("person", alike=self._rng.random() < _ALIKE_SHARE / 2))

    def title(self) -> str:
        """Two words as on the cover of a novel."""
        return " ".join(self._words("novel", alike=False))

    def _words(self, kind: str, *, alike: bool) -> tuple[str, str]:
        first, second = self._new_words(kind)
        recent = self._recent[kind]
        if alike and recent:
            earlier_first, earlier_second = self._rng.choice(recent)
            return (earlier_first, second) if self._rng.random() < 0.5 else (first, earlier_second)
        return first, second

    def _new_words(self, kind: str) -> tuple[str, str]:
        choice, names = self._rng.choice, NAMES.held_out
        invented = self._rng.random() < _INVENTED_SHARE
        match kind:
            case "person":
                first = choice(names.invented_first if invented else names.first)
                return first, choice(names.invented_last if invented else names.last)
            case "ship" | "novel":
                return choice(names.adjectives), choice(names.nouns)
            case "company":
                return choice(names.invented_last if invented else names.last), choice(names.trades)
            case _:
                houses = names.buildings if kind == "place" else names.clubs
                return choice(names.invented_last if invented else names.words), choice(houses)
