"""Facts to train on, without end: named relations, attributes of anything, events, what a writer says of their own.

Within one ``FactGenerator`` no question has two answers; names, attributes and kinds of value recur on purpose, so that every fact
has hard negatives that differ from it in one thing only. Nothing of the held-out split appears. Knows neither torch nor models.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, NamedTuple, TypeVar

from mplus.corpus import first_person
from mplus.corpus.names import OTHER_KINDS, RELATION_KINDS, NameGenerator, NamePool, Subject
from mplus.corpus.phrasing import PHRASES, capital, fill, varied_question, varied_statement, with_article
from mplus.corpus.relations import Relation, is_reserved_wording, relations_about
from mplus.corpus.values import VALUES, ValueGenerator
from mplus.corpus.word_lists import Table, Words

__all__ = ["ATTRIBUTES", "Attribute", "Fact", "FactGenerator", "Kind"]

Kind = Literal["fact", "generic"]
T = TypeVar("T")

_RELATIONS_ABOUT: Final = relations_about(RELATION_KINDS)
_KIND_WEIGHTS: Final = dict(zip(RELATION_KINDS + OTHER_KINDS, (46, 12, 8, 8, 10, 8, 5, 5, 5, 5, 6, 3), strict=True))
_FOCUS: Final = 8  # relations or attributes that a focused generator uses over and over
_OPEN_SUBJECTS: Final = 10  # subjects with facts still to come


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that is so. ``value`` stands verbatim in ``statement`` and never in ``question``."""

    subject: str
    relation: str
    value: str
    statement: str
    question: str
    kind: Kind = "fact"  # of a named relation, or about anything else


class Attribute(NamedTuple):
    """Something a subject has. `nouns`: words for it, all the same thing, one thing only within its kind of subject."""

    nouns: Words
    value: str  # kind


class _AttributeTable(Table):
    subjects: dict[str, dict[str, Words]]  # kind of subject, kind of value, nouns as "noun|another word for it"

    def of(self, kind: str) -> tuple[Attribute, ...]:
        """The attributes of a kind of subject."""
        return tuple(Attribute(tuple(noun.split("|")), value) for value, nouns in self.subjects[kind].items() for noun in nouns)


_ATTRIBUTE_TABLE: Final = _AttributeTable.read("attributes")
ATTRIBUTES: Final = {kind: _ATTRIBUTE_TABLE.of(kind) for kind in _ATTRIBUTE_TABLE.subjects}


class FactGenerator:
    """Makes facts.

    Args:
        rng: where all randomness comes from; the same state gives the same facts.
        facts_per_subject: how many facts a subject gets on average.
        relation_share: share of subjects with facts of the named relations.
        focus: share of facts that use a few relations again and again, so that many subjects share them.
        known_keys: keys of other generators' facts, never made again; the keys of those made here are added.
        pool: the words that names are made of.
    """

    def __init__(
        self,
        rng: Random,
        *,
        facts_per_subject: float = 3.0,
        relation_share: float = 0.55,
        focus: float = 0.4,
        known_keys: deque[str] | None = None,
        pool: NamePool | None = None,
    ) -> None:
        self._rng = rng
        self._facts_per_subject, self._relation_share, self._focus = facts_per_subject, relation_share, focus
        self._names = NameGenerator(rng, pool)
        self._values = ValueGenerator(rng, self._names)
        self._known_keys: deque[str] = deque() if known_keys is None else known_keys
        self._keys: set[str] = set(self._known_keys)
        self._open: list[tuple[Subject, bool, int]] = []  # subject, whether in named relations, facts to come
        self._favourites: dict[str, Sequence[Any]] = {}

    def make(self, count: int) -> list[Fact]:
        """The next `count` facts; those of one subject stand near one another."""
        return [self._next() for _ in range(count)]

    def make_own(self, count: int) -> list[Fact]:
        """Facts of a writer about their own people and things."""
        return [self._next(own_share=0.9) for _ in range(count)]

    def speakers(self) -> tuple[str, str]:
        """Two given names, for a conversation."""
        return self._names.first(), self._names.first()

    def _next(self, own_share: float = 0.12) -> Fact:
        while True:
            fact = self._own() if self._rng.random() < own_share else self._about_subject()
            if fact is not None and fact.value.lower() not in fact.question.lower():
                return fact

    def _about_subject(self) -> Fact | None:
        while len(self._open) < _OPEN_SUBJECTS:
            kind = self._rng.choices(tuple(_KIND_WEIGHTS), tuple(_KIND_WEIGHTS.values()))[0]
            in_relations = kind in RELATION_KINDS and self._rng.random() < self._relation_share
            wanted = max(1, round(self._rng.uniform(0.5, 2 * self._facts_per_subject - 0.5)))
            self._open.append((self._names.subject(kind), in_relations, wanted))
        place = self._rng.randrange(len(self._open))
        subject, in_relations, left = self._open[place]
        if left > 1:
            self._open[place] = (subject, in_relations, left - 1)
        else:
            del self._open[place]
        if in_relations:
            return self._in_relation(subject)
        if subject.kind == "person" and self._rng.random() < 0.3:
            return self._event(subject)
        return self._attribute(subject)

    def _in_relation(self, subject: Subject) -> Fact | None:
        relation: Relation = self._picked(f"relations {subject.kind}", _RELATIONS_ABOUT[subject.kind])
        if not self._is_new(f"{subject.name} {relation.name}"):
            return None
        value = self._values.draw(relation.value)
        statement = fill(self._rng.choice(relation.statements.of("train")), subject.name, value)
        question = fill(self._rng.choice(relation.questions.of("train")), subject.name)
        return self._fact(subject.name, relation.name, value, statement, question, "fact")

    def _attribute(self, subject: Subject) -> Fact | None:
        attribute: Attribute = self._picked(f"attributes {subject.kind}", ATTRIBUTES[subject.kind])
        if not self._is_new(f"{subject.name} {attribute.nouns[0]}"):
            return None
        value = self._values.draw(attribute.value)
        in_statement, in_question = self._nouns(attribute)
        phrases = PHRASES.attribute
        special = phrases.statements_by_kind.get(attribute.value)
        statements = special if special and self._rng.random() < 0.4 else phrases.statements
        phrase = _phrase(value, attribute.value)
        statement = fill(self._rng.choice(statements), subject.name, value, noun=in_statement, phrase=phrase)
        special = phrases.questions_by_kind.get(attribute.value)
        questions = special if special and self._rng.random() < 0.45 else phrases.questions
        question = fill(self._rng.choice(questions), subject.name, noun=in_question)
        return self._fact(subject.name, attribute.nouns[0], value, statement, question, "generic")

    def _event(self, subject: Subject) -> Fact | None:
        phrases = PHRASES.event
        base, past, participle, kind, noun, asked = self._picked("verbs", phrases.verbs)
        when = self._picked("circumstances", phrases.circumstances)
        if not self._is_new(f"{subject.name} {base} {when}"):
            return None
        value = self._values.draw(kind)
        words = {"past": past, "participle": participle, "base": base, "noun": noun, "c": when, "w": asked}
        passive = kind not in ("distance", "dance") and self._rng.random() < 0.15
        phrase = f"the {value}" if kind == "instrument" else _phrase(value, kind)
        statement = self._rng.choice(phrases.passive_statements if passive else phrases.statements)
        statement = capital(fill(statement, subject.name, value, phrase=phrase, **words))
        question = capital(fill(self._rng.choice(phrases.questions), subject.name, **words))
        return self._fact(subject.name, f"{base} {when}", value, statement, question, "generic")

    def _own(self) -> Fact | None:
        """Something the writer says about their own people and things."""
        owner = first_person.owner(self._rng, self._names)
        attribute: Attribute = self._picked(f"attributes {owner.kind}", ATTRIBUTES[owner.kind])
        if not self._is_new(f"{owner.name} {attribute.nouns[0]}"):
            return None
        value = self._values.draw(attribute.value)
        nouns, phrase = self._nouns(attribute), _phrase(value, attribute.value)
        statement, question = first_person.sentences_about(self._rng, owner, nouns, value, attribute.value, phrase)
        return self._fact(owner.name, attribute.nouns[0], value, statement, question, "generic")

    def _fact(self, subject: str, relation: str, value: str, statement: str, question: str, kind: Kind) -> Fact | None:
        if is_reserved_wording(statement, subject, value) or is_reserved_wording(question, subject, ""):
            return None
        if value not in statement:  # a capital at the start of the sentence
            value = capital(value)
        statement = varied_statement(self._rng, statement, subject, value, share=0.2)
        question = varied_question(self._rng, question, share=0.25)
        return Fact(subject=subject, relation=relation, value=value, statement=statement, question=question, kind=kind)

    def _nouns(self, attribute: Attribute) -> tuple[str, str]:
        """The attribute's word in the statement and in the question, sometimes another one."""
        noun = self._rng.choice(attribute.nouns)
        return noun, self._rng.choice(attribute.nouns) if self._rng.random() < 0.4 else noun

    def _is_new(self, key: str) -> bool:
        key = key.lower()
        if key in self._keys:
            return False
        self._keys.add(key)
        self._known_keys.append(key)
        return True

    def _picked(self, name: str, among: Sequence[T]) -> T:
        """One of them; in a share of cases one of a few favourites, which stay the same for this generator."""
        if self._rng.random() >= self._focus:
            return self._rng.choice(among)
        if name not in self._favourites:
            self._favourites[name] = self._rng.sample(among, min(_FOCUS, len(among)))
        favourites: Sequence[T] = self._favourites[name]
        return self._rng.choice(favourites)


def _phrase(value: str, kind: str) -> str:
    """The value as it stands in a sentence, with its article if it can be counted."""
    return with_article(value) if kind in VALUES.countable else value
