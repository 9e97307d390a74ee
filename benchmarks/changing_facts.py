"""Generated facts that change, and chains of two facts, in running text: what ``benchmarks.current`` measures with. Knows no model.

Names, values and wordings are those of the held-out split. The same seed gives the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.facts import Fact
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.phrasing import fill
from mplus.corpus.python_docs import python_text
from mplus.corpus.relations import RELATIONS, Relation, relations_about
from mplus.evaluation.schedule.stream import Span, units_of

DOCUMENT_TOKENS: Final = 240
"""Text of one source, about."""
CHARACTERS_PER_TOKEN: Final = 8
LINKS: Final = {
    "keeper": "the keeper of {s}",
    "architect": "the architect of {s}",
    "captain": "the captain of {s}",
    "founder": "the founder of {s}",
    "director": "the director of {s}",
    "author": "the author of {s}",
}
"""Relations whose value is a person, with a description of that person."""
ASKS_FOR_THE_PAST: Final = "At first, before that changed: "

_BY_NAME: Final = {relation.name: relation for relation in RELATIONS}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with the statements that it needs.

    Attributes:
        statements: those of one slot in the order of time, or the links of a chain.
        values: the value of each.
        control: True where the fact never changes.
    """

    question: str
    statements: tuple[str, ...]
    values: tuple[str, ...]
    control: bool = False


@dataclass
class Document:
    """A source, with the place of each statement in its tokens: (number of what is asked, number of the statement, span)."""

    ids: list[int]
    placed: list[tuple[int, int, Span]]


def changing_facts(seed: int, count: int, changes: int) -> list[Asked]:
    """`count` facts that change, and as many controls that never do.

    Args:
        changes: values that follow the first one.
    """
    rng = Random(f"mplus changing facts {seed} {changes}")
    facts = HeldOutFacts(seed).make(40 * (changes + 2) * 12)
    of_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        of_relation.setdefault(fact.relation, []).append(fact)
    made: list[Asked] = []
    for fact in facts[: 20 * count]:
        others = {one.value for one in of_relation[fact.relation] if _apart(one.value, fact)} - {fact.value}
        distinct = _distinct(fact.value, sorted(others), rng, changes)
        if len(distinct) == changes + 1:
            made.append(_asked(fact, distinct, rng, control=len(made) % 2 == 1))
        if len(made) == 2 * count:
            return made
    raise AssertionError(f"{len(made)} facts with {changes} other values, {2 * count} wanted")


def _apart(value: str, fact: Fact) -> bool:
    return value.lower() not in fact.question.lower()


def _distinct(first: str, others: list[str], rng: Random, count: int) -> list[str]:
    """`first` and `count` other values of which none holds another."""
    out = [first]
    for value in rng.sample(others, len(others)):
        if len(out) <= count and not any(value.lower() in one.lower() or one.lower() in value.lower() for one in out):
            out.append(value)
    return out


def _asked(fact: Fact, values: list[str], rng: Random, *, control: bool) -> Asked:
    relation = _BY_NAME[fact.relation]
    kept = values[:1] if control else values
    statements = [fill(rng.choice(relation.statements.of("held_out")), fact.subject, value) for value in kept]
    return Asked(
        question=fact.question,
        statements=tuple(statements),
        values=tuple(kept),
        control=control,
    )


def chains(seed: int, count: int) -> list[Asked]:
    """Questions that need two statements: who has a role, and something of that person."""
    rng = Random(f"mplus chains {seed}")
    about_people = [one for one in relations_about(("person",))["person"] if one.value != "person"]
    made = list[Asked]()
    taken = set[str]()
    for fact in HeldOutFacts(seed).make(60 * count):
        if fact.relation not in LINKS or fact.value in taken or len(made) == count:
            continue
        taken.add(fact.value)
        made.append(_chain(fact, rng.choice(about_people), rng, HeldOutFacts(seed + 1000 + len(made))))
    assert len(made) == count
    return made


def _chain(fact: Fact, relation: Relation, rng: Random, more: HeldOutFacts) -> Asked:
    value = next(one.value for one in more.make(2000) if one.relation == relation.name)
    second = fill(rng.choice(relation.statements.of("held_out")), fact.value, value)
    question = fill(rng.choice(relation.questions.of("held_out")), LINKS[fact.relation].format(s=fact.subject))
    return Asked(question=question, statements=(fact.statement, second), values=(fact.value, value))


def documents(
    asked: Sequence[Asked], encode: Callable[[str], list[int]], tokens: int, seed: int, *, in_time: bool = True
) -> Iterator[Document]:
    """Running text of about `tokens` tokens with all statements in it, those of one slot in the order of time.

    Args:
        in_time: False lays the statements of one question out in any order.
    """
    rng = Random(f"mplus documents {seed}")
    places = [(rng.random(), number) for number, one in enumerate(asked) for _ in one.statements]
    due, order = dict[int, list[int]](), list[tuple[int, int]]()
    for number, one in enumerate(asked):
        due[number] = list(range(len(one.statements)))
        if not in_time:
            rng.shuffle(due[number])
    for _, number in sorted(places):
        order.append((number, due[number].pop(0)))
    statements = [encode(" " + asked[number].statements[which]) for number, which in order]
    whole = python_text()
    begin = whole.index("\n", seed * 100_003 % len(whole))
    text = (whole[begin:] + whole[:begin])[: CHARACTERS_PER_TOKEN * tokens]
    filler = (unit.ids for _, unit in units_of(text, encode))
    between = max(0, tokens - sum(map(len, statements))) / len(statements)
    document, owed = Document([], []), 0.0
    for (number, which), ids in zip(order, statements, strict=True):
        owed += between
        while owed > 0 and (unit := next(filler, None)) is not None:
            document.ids += unit
            owed -= len(unit)
        document.placed.append((number, which, (len(document.ids), len(document.ids) + len(ids))))
        document.ids += ids
        if len(document.ids) >= DOCUMENT_TOKENS:
            yield document
            document = Document([], [])
    if document.ids:
        yield document
