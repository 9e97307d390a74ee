"""Running text whose continuation is scored, more or less of what stands before it having been read. Knows tokens, no models.

The same tokens are scored behind each length, so a difference is what was read and nothing else.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field, field_validator

from mplus.errors import InputError
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion, Unit, units_of
from mplus.evaluation.tasks.background import background_text
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext, spread

DEFAULT_TEXTS = 40


class PerplexitySettings(Settings):
    """Settings of the task file.

    Attributes:
        before: tokens read before the prompt; 0 is nothing.
        prompt_tokens: in the prompt, not scored; a memory chooses by them what it reads.
        after: tokens scored, up to the sentence end behind them.
    """

    before: tuple[int, ...] = (0, 512, 2048, 7168)
    prompt_tokens: int = Field(default=64, ge=1)
    after: int = Field(default=192, ge=1)

    @field_validator("before")
    @classmethod
    def _some(cls, before: tuple[int, ...]) -> tuple[int, ...]:
        if not before or min(before) < 0:
            raise ValueError("expected at least one length, none below 0")
        return before


def streams(settings: PerplexitySettings, context: TaskContext) -> list[StreamSource]:
    """One stream per text and length."""
    units = units_of(background_text(context), context.encode)
    starts, position = [], 0
    total = sum(len(unit.ids) for _, unit in units)
    for number, (_, unit) in enumerate(units):
        if max(settings.before) <= position and (stop := _prompt_end(units, number, settings.prompt_tokens)) is not None:
            left = total - position - sum(len(one.ids) for _, one in units[number:stop])
            if left >= settings.after:
                starts.append(number)
        position += len(unit.ids)
    count = DEFAULT_TEXTS if context.limit is None else context.limit
    if len(starts) < count:
        raise InputError(
            f"the text has {total:,} tokens, too few for {count} places with {max(settings.before):,} tokens before each; "
            "give a longer one with --haystack FILE, or smaller lengths"
        )
    made = []
    for start in spread(starts, count):
        question = _question(units[start:], settings, f"sentence {start}")
        for before in settings.before:
            make = partial(_script, context, [unit for _, unit in units[:start]], question, before)
            made.append(StreamSource(name=f"sentence {start}, {before} before", seed=context.seed, script=make))
    return made


def _prompt_end(units: list[tuple[str, Unit]], start: int, tokens: int) -> int | None:
    """The first unit behind a prompt of whole sentences that has so many tokens; None where the text ends before."""
    found = 0
    for number, (_, unit) in enumerate(units[start:], start):
        if found >= tokens:
            return number
        found += len(unit.ids)
    return None


def _question(units: list[tuple[str, Unit]], settings: PerplexitySettings, name: str) -> Question:
    """The prompt's sentences, and those that are scored behind them."""
    text, prompt, scored = "", 0, list[int]()
    for part, unit in units:
        if prompt < settings.prompt_tokens:
            text += part
            prompt += len(unit.ids)
        elif len(scored) < settings.after:
            scored += unit.ids
    return Question(
        id=name,
        cluster=name,
        text=text,
        answers=(),
        span=(0, 0),
        answer_span=(0, 0),
        continuation=tuple(scored[: settings.after]),
    )


def _script(context: TaskContext, before: list[Unit], question: Question, tokens: int) -> EvalStream:
    """The last so many tokens before the prompt, and the question behind them."""
    ids = [token for unit in before for token in unit.ids][-tokens:] if tokens else []
    kept: list[Unit] = []
    left = len(ids)
    for unit in reversed(before):
        if left <= 0:
            break
        kept.insert(0, Unit(ids=unit.ids[-left:], ends_paragraph=unit.ends_paragraph))
        left -= len(unit.ids)
    row = f"{short(tokens)} before" if tokens else "nothing before"
    named = Question(**{**vars(question), "row": row})
    return context.script([kept], [(len(ids), ScheduledQuestion(named, tokens))])
