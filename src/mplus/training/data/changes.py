"""Facts whose value changed: statements in order, and what is asked about the newest, the first and the one before. Knows no tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.facts import ATTRIBUTES, Fact, FactGenerator
from mplus.corpus.names import OTHER_KINDS, RELATION_KINDS, NamePool
from mplus.corpus.numbers import MONTHS
from mplus.corpus.phrasing import PHRASES, fill, with_article
from mplus.corpus.values import VALUES
from mplus.training.data.asking import worded

MOST_VALUES: Final = 4
_FIRST_SHARE, _BEFORE_SHARE = 0.2, 0.1  # questions about the past


@dataclass(frozen=True)
class Change:
    """Statements about one thing, oldest first, with the value of each, and questions about it as (question, answer, number of the statement)."""

    statements: tuple[str, ...]
    values: tuple[str, ...]
    asked: tuple[tuple[str, str, int], ...]


class ChangeGenerator(FactGenerator):
    """Makes facts that change, of the training split's names, attributes and wordings."""

    def __init__(self, rng: Random, pool: NamePool | None = None) -> None:
        super().__init__(rng, pool=pool)

    def change(self) -> Change:
        """A thing that got a new value once or several times."""
        rng = self._rng
        while True:
            values = rng.randint(2, MOST_VALUES)
            facts = self._one_thing(values)
            if len({fact.value.lower() for fact in facts}) == values:
                break
        year, month = rng.randint(1990, 2024), rng.randrange(12)
        statements = []
        for number, fact in enumerate(facts):
            date = self._date(year, month)
            statements.append(worded(rng, "changes" if number else "firsts", date=date, s=fact.statement, l=_small(fact)))
            month += rng.randint(1, 9)
        asked = [(worded(rng, "now", q=facts[-1].question), facts[-1].value, values - 1)]
        if rng.random() < _FIRST_SHARE / (1 - _FIRST_SHARE):
            asked.append((worded(rng, "past", q=facts[-1].question), facts[0].value, 0))
        if rng.random() < _BEFORE_SHARE / (1 - _BEFORE_SHARE):
            asked.append((worded(rng, "before_last", q=facts[-1].question), facts[-2].value, values - 2))
        return Change(tuple(statements), tuple(fact.value for fact in facts), tuple(asked))

    def _one_thing(self, values: int) -> list[Fact]:
        """Facts of one subject and attribute with a value each; none where a wording is kept for measuring."""
        rng, phrases = self._rng, PHRASES.attribute
        subject = self._names.subject(rng.choice(RELATION_KINDS + OTHER_KINDS))
        attribute = rng.choice(ATTRIBUTES[subject.kind])
        question = fill(rng.choice(phrases.questions), subject.name, noun=rng.choice(attribute.nouns))
        facts = []
        for _ in range(values):
            value = self._values.draw(attribute.value)
            shown = with_article(value) if attribute.value in VALUES.countable else value
            noun = rng.choice(attribute.nouns)
            statement = fill(rng.choice(phrases.statements), subject.name, value, noun=noun, phrase=shown)
            fact = self._fact(subject.name, attribute.nouns[0], value, statement, question, "generic")
            if fact is not None and value.lower() not in question.lower():
                facts.append(fact)
        return facts

    def _date(self, year: int, month: int) -> str:
        rng = self._rng
        name = f"{MONTHS[month % 12]} {year + month // 12}"
        return f"{rng.randint(1, 28)} {name}" if rng.random() < 0.5 else name


def _small(fact: Fact) -> str:
    """The statement as it goes on within a sentence: a name keeps its capital."""
    name = fact.statement.startswith(fact.subject) and not fact.subject.startswith("the ")
    return fact.statement if name or fact.statement.startswith(fact.value) else fact.statement[:1].lower() + fact.statement[1:]
