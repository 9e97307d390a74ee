"""Facts to train on, without end: named relations, attributes of anything, events, things told in the first person.

Within one ``Teller`` no question has two answers; names, attributes and kinds of value recur on purpose, so that every fact has
look-alikes that differ from it in one thing only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, TypeVar

from mplus.corpus.facts import RELATIONS, Fact
from mplus.corpus.relation import Relation, article, worded
from mplus.corpus.wide import events, phrasing
from mplus.corpus.wide.attributes import ATTRIBUTES, Attribute
from mplus.corpus.wide.firstperson import FirstPerson
from mplus.corpus.wide.naming import OTHER_KINDS, RELATION_KINDS, Named, Namer
from mplus.corpus.wide.pools import Pools
from mplus.corpus.wide.reserved import is_reserved_wording
from mplus.corpus.wide.values import COUNTABLE, Values
from mplus.corpus.wide.wordings import train_wordings

Kind = Literal["fact", "generic"]
T = TypeVar("T")

_RELATIONS_ABOUT: Final = {kind: tuple(r for r in RELATIONS if kind in r.subjects) for kind in RELATION_KINDS}
_KIND_WEIGHTS: Final = {
    **dict(zip(RELATION_KINDS, (46, 12, 8, 8, 10, 8), strict=True)),
    **dict(zip(OTHER_KINDS, (5, 5, 5, 5, 6, 3), strict=True)),
}
_FOCUS: Final = 8  # relations or attributes that a focused teller uses over and over
_CAST: Final = 10  # subjects with facts still to come


@dataclass(frozen=True, kw_only=True)
class Told(Fact):
    """A fact with where its question comes from: a named relation, or anything else."""

    kind: Kind


class Teller:
    """Makes facts.

    Args:
        rng: where all randomness comes from; the same state gives the same facts.
        facts_per_subject: how many facts a subject gets on average.
        relation_share: share of subjects that are told about in the named relations.
        focus: share of facts that use a few relations again and again, so that many subjects share them.
        told_before: keys of facts told by others, never told again; those told here are added.
        pools: the words that names are made of.
    """

    def __init__(
        self,
        rng: Random,
        *,
        facts_per_subject: float = 3.0,
        relation_share: float = 0.55,
        focus: float = 0.4,
        told_before: deque[str] | None = None,
        pools: Pools | None = None,
    ) -> None:
        self._rng = rng
        self._facts_per_subject, self._relation_share, self._focus = facts_per_subject, relation_share, focus
        self._namer = Namer(rng, pools)
        self._values = Values(rng, self._namer)
        self._first_person = FirstPerson(rng, self._namer)
        self._told_before: deque[str] = deque() if told_before is None else told_before
        self._keys: set[str] = set(self._told_before)
        self._cast: list[tuple[Named, bool, int]] = []  # subject, whether in named relations, facts to come
        self._favourites: dict[str, Sequence[Any]] = {}

    def make(self, count: int) -> list[Told]:
        """The next `count` facts; those of one subject stand near one another."""
        return [self._next() for _ in range(count)]

    def make_own(self, count: int) -> list[Told]:
        """Facts that a writer tells about their own people and things."""
        return [self._next(own_share=0.9) for _ in range(count)]

    def speakers(self) -> tuple[str, str]:
        """Two given names, for a conversation."""
        return self._namer.first(), self._namer.first()

    def _next(self, own_share: float = 0.12) -> Told:
        while True:
            made = self._own() if self._rng.random() < own_share else self._about_somebody()
            if made is not None and made.value.lower() not in made.question.lower():
                return made

    def _about_somebody(self) -> Told | None:
        while len(self._cast) < _CAST:
            kind = self._rng.choices(tuple(_KIND_WEIGHTS), tuple(_KIND_WEIGHTS.values()))[0]
            in_relations = kind in RELATION_KINDS and self._rng.random() < self._relation_share
            wanted = max(1, round(self._rng.uniform(0.5, 2 * self._facts_per_subject - 0.5)))
            self._cast.append((self._namer.subject(kind), in_relations, wanted))
        place = self._rng.randrange(len(self._cast))
        subject, in_relations, left = self._cast[place]
        if left > 1:
            self._cast[place] = (subject, in_relations, left - 1)
        else:
            del self._cast[place]
        if in_relations:
            return self._in_relation(subject)
        if subject.kind == "person" and self._rng.random() < 0.3:
            return self._event(subject)
        return self._attribute(subject)

    def _in_relation(self, subject: Named) -> Told | None:
        relation: Relation = self._picked(f"relations {subject.kind}", _RELATIONS_ABOUT[subject.kind])
        if not self._is_new(f"{subject.name} {relation.name}"):
            return None
        statements, questions = train_wordings(relation)
        value = self._values.draw(relation.value)
        statement = worded(self._rng.choice(statements), subject.name, value)
        question = worded(self._rng.choice(questions), subject.name)
        return self._told(subject.name, relation.name, value, statement, question, "fact")

    def _attribute(self, subject: Named, noun_owner: str | None = None) -> Told | None:
        attribute: Attribute = self._picked(f"attributes {subject.kind}", ATTRIBUTES[noun_owner or subject.kind])
        if not self._is_new(f"{subject.name} {attribute.nouns[0]}"):
            return None
        value = self._values.draw(attribute.value)
        told, asked = self._nouns(attribute)
        countable = attribute.value in COUNTABLE
        by_kind = {"person": phrasing.TELL_PERSON, "petname": phrasing.TELL_PERSON, "colour": phrasing.TELL_COLOUR}.get(
            attribute.value
        )
        wordings = by_kind if by_kind and self._rng.random() < 0.4 else phrasing.TELL
        statement = phrasing.filled(self._rng.choice(wordings), subject=subject.name, noun=told, value=value, countable=countable)
        special = phrasing.ASK_BY_KIND.get(attribute.value)
        forms = special if special and self._rng.random() < 0.45 else phrasing.ASK
        question = phrasing.filled(self._rng.choice(forms), subject=subject.name, noun=asked)
        return self._told(subject.name, attribute.nouns[0], value, statement, question, "generic")

    def _event(self, subject: Named) -> Told | None:
        verb: events.Verb = self._picked("verbs", events.VERBS)
        when: str = self._picked("circumstances", events.CIRCUMSTANCES)
        if not self._is_new(f"{subject.name} {verb.base} {when}"):
            return None
        value = self._values.draw(verb.value)
        phrase = (
            f"{article(value)} {value}" if verb.value in COUNTABLE else f"the {value}" if verb.value == "instrument" else value
        )
        words = {"s": subject.name, "past": verb.past, "participle": verb.participle, "base": verb.base, "noun": verb.noun}
        words |= {"c": when, "C": phrasing.capital(when), "w": verb.asked, "W": phrasing.capital(verb.asked)}
        passive = verb.value not in ("distance", "dance") and self._rng.random() < 0.15
        told = self._rng.choice(events.TELL_EVENT_PASSIVE if passive else events.TELL_EVENT)
        statement = phrasing.capital(told.format(p=phrase, P=phrasing.capital(phrase), **words))
        question = phrasing.capital(self._rng.choice(events.ASK_EVENT).format(**words))
        return self._told(subject.name, f"{verb.base} {when}", value, statement, question, "generic")

    def _own(self) -> Told | None:
        """Something the writer tells about their own people and things."""
        owner, kind, thing = self._first_person.owner()
        attribute: Attribute = self._picked(f"attributes {kind}", ATTRIBUTES[kind])
        key = f"{owner} {attribute.nouns[0]}"
        if not self._is_new(key):
            return None
        value = self._values.draw(attribute.value)
        told, asked = self._nouns(attribute)
        statement, question = self._first_person.wordings(
            owner, thing, (told, asked), value, attribute.value, countable=attribute.value in COUNTABLE
        )
        return self._told(owner, attribute.nouns[0], value, statement, question, "generic")

    def _told(self, subject: str, relation: str, value: str, statement: str, question: str, kind: Kind) -> Told | None:
        if is_reserved_wording(statement, subject, value) or is_reserved_wording(question, subject, ""):
            return None
        if value not in statement:  # a capital at the start of the sentence
            value = phrasing.capital(value)
        statement = phrasing.varied_statement(self._rng, statement, subject, value, share=0.2)
        question = phrasing.varied_question(self._rng, question, share=0.25)
        return Told(subject=subject, relation=relation, value=value, statement=statement, question=question, kind=kind)

    def _nouns(self, attribute: Attribute) -> tuple[str, str]:
        """The word for it in the statement and in the question, sometimes another one."""
        told = self._rng.choice(attribute.nouns)
        return told, self._rng.choice(attribute.nouns) if self._rng.random() < 0.4 else told

    def _is_new(self, key: str) -> bool:
        key = key.lower()
        if key in self._keys:
            return False
        self._keys.add(key)
        self._told_before.append(key)
        return True

    def _picked(self, name: str, among: Sequence[T]) -> T:
        """One of them; in a share of cases one of a few favourites, which stay the same for this teller."""
        if self._rng.random() >= self._focus:
            return self._rng.choice(among)
        if name not in self._favourites:
            self._favourites[name] = self._rng.sample(among, min(_FOCUS, len(among)))
        favourites: Sequence[T] = self._favourites[name]
        return self._rng.choice(favourites)
