"""Facts of sources that are forgotten while a text is read, and of those that are kept, asked before and after. Knows tokens, no model."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any, Final

from pydantic import Field, model_validator

from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.tasks import people
from mplus.evaluation.tasks.absent.builder import PersonalFact, personal_facts
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack
from mplus.evaluation.tasks.planted import planted, sources, texts

DEFAULT_QUESTIONS: Final = 128
_TOKENS_OF_A_STATEMENT: Final = 20
_FILLED: Final = 0.25


class ForgottenSettings(Settings):
    """Settings of the task file.

    Attributes:
        tokens: of a text.
        sources: of a text; the last one has no facts.
        forgets: how many of them are forgotten.
    """

    tokens: int = Field(default=16_000, ge=1000)
    sources: int = Field(default=16, ge=3, le=1000)
    forgets: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _some_stay(self) -> ForgottenSettings:
        if self.forgets > self.sources - 2:
            raise ValueError(
                f"forgets is {self.forgets}, expected {self.sources - 2} or fewer, for some of the sources must stay"
            )
        return self


def streams(settings: ForgottenSettings, context: TaskContext) -> list[StreamSource]:
    """Texts until every row has its questions."""
    room = max(1, int(_FILLED * settings.tokens / settings.sources / _TOKENS_OF_A_STATEMENT) * settings.forgets)
    return texts(context, DEFAULT_QUESTIONS, room, partial(_script, settings, Haystack(context)))


def _script(settings: ForgottenSettings, haystack: Haystack, name: str, count: int) -> EvalStream:
    context, rng = haystack.context, Random(f"mplus forgotten {haystack.context.seed} {name}")
    facts, parts = personal_facts(rng, people.names(rng, 2 * count), 2 * count), sources(settings.sources, "document")
    told = parts[:-1]
    leaving = rng.sample(told, settings.forgets)
    staying = [part for part in told if part not in leaving]
    for number, fact in enumerate(facts):
        part = (leaving if number < count else staying)[number % len(leaving if number < count else staying)]
        part.statements.append((fact.key, rng.random(), fact.statement))
    text = planted(haystack, rng, parts, settings.tokens)
    before, end = max(text.sources), text.tokens
    due = list[tuple[int, ScheduledQuestion]]()
    for number, fact in enumerate(facts):
        for is_after in (False, True):
            question = _question(context, name, fact, text.spans[fact.key], goes=number < count, is_after=is_after)
            due.append((end if is_after else before, ScheduledQuestion(question, 0)))
    script = context.script([text.units], due, text.sources)
    script.forgets[end] = tuple(part.name for part in leaving)
    return script


def _question(
    context: TaskContext, name: str, fact: PersonalFact, span: tuple[int, int], *, goes: bool, is_after: bool
) -> Question:
    row = ("forgotten" if goes else "kept") + ("" if is_after else ", before")
    more: dict[str, Any] = {"row": row, "cluster": f"{name} {fact.key}", "passage": fact.statement}
    if goes and is_after:
        more |= {"unanswerable": True, "forbidden": (fact.value,)}
        span = (0, 0)  # there is nothing to be read
    return context.question(f"{name} {fact.key} {row}", fact.question, (fact.value,), span, **more)
