"""Questions about what was never written, with look-alikes in the text, and as many about what was. Knows tokens, no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from pydantic import Field

from mplus.corpus.relations import Relation
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.tasks import people
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack, LongLengths
from mplus.evaluation.tasks.planted import PlantedText, planted, sources, texts

DEFAULT_QUESTIONS: Final = 128
_TOKENS_OF_A_STATEMENT: Final = 20
_FILLED: Final = 0.3
_MOST_OF_A_TEXT: Final = 64
_PER_PERSON: Final = 2  # facts
_KINDS: Final = ("same name", "other name", "near name")
_LETTERS: Final = "aeioulnrst"


class AbsentSettings(Settings):
    """Settings of the task file.

    Attributes:
        lengths: tokens of a text; four rows for each.
        sources: parts of a text.
    """

    lengths: LongLengths = (16_000,)
    sources: int = Field(default=8, ge=1, le=1000)


@dataclass(frozen=True, kw_only=True)
class PersonalFact:
    """A statement about a person, and the question for it."""

    key: str
    subject: str
    relation: Relation
    value: str
    statement: str
    question: str


def streams(settings: AbsentSettings, context: TaskContext) -> list[StreamSource]:
    """Texts of each length until its rows have their questions."""
    haystack, made = Haystack(context), list[StreamSource]()
    for length in settings.lengths:
        room = max(1, min(_MOST_OF_A_TEXT, int(_FILLED * length / _TOKENS_OF_A_STATEMENT)))
        made += texts(context, DEFAULT_QUESTIONS, room, partial(_script, settings, haystack, length), short(length))
    return made


def personal_facts(rng: Random, subjects: Sequence[str], count: int) -> list[PersonalFact]:
    """So many facts about people, none of whom meets a relation twice and most of whom share each relation with others."""
    made = list[PersonalFact]()
    for place in range(-(-count // len(subjects))):
        relations = rng.sample(people.PERSONAL, len(people.PERSONAL))
        for number, subject in enumerate(subjects[: count - len(made)]):
            relation = relations[(number + place) % len(relations)]
            if any(one.subject == subject and one.relation is relation for one in made):
                relation = relations[(number + place + 1) % len(relations)]
            told = people.value(rng, relation.value)
            made.append(
                PersonalFact(
                    key=str(len(made)), subject=subject, relation=relation, value=told,
                    statement=people.statement(rng, relation, subject, told), question=people.question(rng, relation, subject),
                )
            )  # fmt: skip
    return made


def _script(settings: AbsentSettings, haystack: Haystack, length: int, name: str, count: int) -> EvalStream:
    context, rng = haystack.context, Random(f"mplus absent task {haystack.context.seed} {name}")
    pool = people.names(rng, 4 * count + 4)
    subjects, unused = pool[: -(-count // _PER_PERSON)], pool[-(-count // _PER_PERSON) :]
    facts, parts = personal_facts(rng, subjects, count), sources(settings.sources)
    for fact in facts:
        rng.choice(parts).statements.append((fact.key, rng.random(), fact.statement))
    text = planted(haystack, rng, parts, length)
    asked = [_present(context, name, length, fact, text) for fact in facts]
    for kind in _KINDS:
        chosen = rng.sample(facts, max(1, round(count / len(_KINDS))))
        asked += [_absent(context, rng, f"{name} {kind} {fact.key}", length, kind, fact, facts, unused) for fact in chosen]
    return context.script([text.units], [(text.tokens, ScheduledQuestion(one, 0)) for one in asked], text.sources)


def _present(context: TaskContext, name: str, length: int, fact: PersonalFact, text: PlantedText) -> Question:
    more = {"row": f"present {short(length)}", "passage": fact.statement}
    return context.question(f"{name} present {fact.key}", fact.question, (fact.value,), text.spans[fact.key], **more)


def _absent(
    context: TaskContext, rng: Random, name: str, length: int, kind: str, fact: PersonalFact, facts: Sequence[PersonalFact],
    unused: Sequence[str],
) -> Question:  # fmt: skip
    """A question like a fact's that has no answer; the passage is the look-alike."""
    if kind == "same name":
        met = {one.relation.name for one in facts if one.subject == fact.subject}
        asks = people.question(rng, rng.choice([one for one in people.PERSONAL if one.name not in met]), fact.subject)
    else:
        subject = rng.choice(unused) if kind == "other name" else _near(rng, fact.subject, {one.subject for one in facts})
        asks = people.question(rng, fact.relation, subject)
    more = {"row": f"{kind} {short(length)}", "unanswerable": True, "passage": fact.statement}
    return context.question(name, asks, (), (0, 0), **more)


def _near(rng: Random, name: str, known: set[str]) -> str:
    """A name that nobody has: with another surname, or another letter in it."""
    while True:
        first, last = name.split(" ", 1)
        if rng.random() < 0.5:
            last = rng.choice(people.LAST)
        else:
            at = rng.randrange(1, len(last))
            last = last[:at] + rng.choice(_LETTERS) + last[at + 1 :]
        if f"{first} {last}" not in known:
            return f"{first} {last}"
