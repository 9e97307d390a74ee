"""The same questions alone, behind a system prompt and earlier messages, and as follow-ups. Knows tokens, no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from pydantic import Field

from mplus.corpus.phrasing import article
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.tasks import people
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack
from mplus.evaluation.tasks.planted import PlantedText, planted, sources, texts
from mplus.evaluation.word_lists import word_lists

DEFAULT_QUESTIONS: Final = 128
_TOKENS_OF_A_FACT: Final = 60  # of a person, of the relative, and how they are related
_FILLED: Final = 0.3
_MOST_OF_A_TEXT: Final = 64
_LISTS: Final = word_lists(__file__)
_ROLES: Final = ("user", "assistant")
_OWNERS: Final = ("her", "his")

Turns = tuple[tuple[str, str], ...]


class TurnsSettings(Settings):
    """Settings of the task file.

    Attributes:
        tokens: of a text.
        sources: parts of a text.
    """

    tokens: int = Field(default=16_000, ge=1000)
    sources: int = Field(default=8, ge=1, le=1000)


@dataclass(frozen=True, kw_only=True)
class FamilyFact:
    """The same said of a person and of a relative.

    Attributes:
        statements: of the person, of the relative.
        questions: about the person, about the relative by name, about the relative as the next question.
    """

    key: str
    values: tuple[str, str]
    statements: tuple[str, str]
    questions: tuple[str, str, str]


def streams(settings: TurnsSettings, context: TaskContext) -> list[StreamSource]:
    """Texts until every row has its questions."""
    room = max(1, min(_MOST_OF_A_TEXT, int(_FILLED * settings.tokens / _TOKENS_OF_A_FACT)))
    return texts(context, DEFAULT_QUESTIONS, room, partial(_script, settings, Haystack(context)))


def earlier(rng: Random, messages: int) -> Turns:
    """So many messages of a conversation about other things, an even number."""
    pairs = rng.sample(_LISTS["earlier"], messages // 2)
    return tuple(pair for both in pairs for pair in zip(_ROLES, both.split(">"), strict=True))


def family_facts(rng: Random, count: int) -> list[FamilyFact]:
    """Facts about so many people and a relative of each."""
    persons, made = people.names(rng, 2 * count), list[FamilyFact]()
    for number in range(count):
        person, other = persons[2 * number : 2 * number + 2]
        _, kind, said, asked = _LISTS["things"][number % len(_LISTS["things"])].split(">")
        relative = rng.choice(_LISTS["relatives"])
        mine, theirs = people.values(rng, kind, 2)
        fill = partial(_filled, said)
        related = f"{other} is the {relative} of {person}."
        made.append(
            FamilyFact(
                key=str(number),
                values=(mine, theirs),
                statements=(fill(person, mine), f"{related} {fill(other, theirs)}"),
                questions=(
                    asked.format(s=person),
                    asked.format(s=f"the {relative} of {person}"),
                    f"What about {rng.choice(_OWNERS)} {relative}?",
                ),
            )
        )
    return made


def _filled(template: str, subject: str, value: str) -> str:
    return template.format(s=subject, v=value, a=article(value))


def _script(settings: TurnsSettings, haystack: Haystack, name: str, count: int) -> EvalStream:
    context, rng = haystack.context, Random(f"mplus turns {haystack.context.seed} {name}")
    facts, parts = family_facts(rng, count), sources(settings.sources)
    for fact in facts:
        for number, statement in enumerate(fact.statements):
            rng.choice(parts).statements.append((f"{fact.key} {number}", rng.random(), statement))
    text = planted(haystack, rng, parts, settings.tokens)
    asked = [question for fact in facts for question in _questions(context, rng, name, fact, text)]
    return context.script([text.units], [(text.tokens, ScheduledQuestion(one, 0)) for one in asked], text.sources)


def _questions(context: TaskContext, rng: Random, name: str, fact: FamilyFact, text: PlantedText) -> list[Question]:
    own, named, follow = fact.questions
    first: Turns = (("user", own), ("assistant", f"{fact.values[0][:1].upper()}{fact.values[0][1:]}."))
    forms: list[tuple[str, int, str, Turns]] = [
        ("alone", 0, own, ()),
        ("system prompt", 0, own, (("system", rng.choice(_LISTS["system"])),)),
        ("4 earlier", 0, own, earlier(rng, 4)),
        ("12 earlier", 0, own, earlier(rng, 12)),
        ("follow-up, alone", 1, named, ()),
        ("follow-up", 1, follow, first),
    ]
    made = []
    for row, whose, asks, before in forms:
        span = text.spans[f"{fact.key} {whose}"]
        more = {"row": row, "cluster": f"{name} {fact.key}", "passage": fact.statements[whose], "before": before}
        made.append(context.question(f"{name} {fact.key} {row}", asks, (fact.values[whose],), span, **more))
    return made
