"""Synthetic tests after RULER: retrieval, tracing, aggregation and answering in made texts of any length. Knows tokens, no model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Final

from pydantic import field_validator

from mplus.corpus.passages import Passage, PassageQuestion, read_passages
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import Names, short
from mplus.evaluation.schedule.stream import EvalStream, ScheduledQuestion
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack, LongLengths
from mplus.evaluation.tasks.ruler.families import FAMILIES, Kit

DEFAULT_SAMPLES: Final = 6
"""Of a row; a multiple of three, so that the kinds of single needles and of many keys are alike in number."""

NEEDS_DATA: Final = "qa"


class RulerSettings(Settings):
    """Settings of the task file.

    Attributes:
        families: names of ``FAMILIES``; None: all, ``qa`` among them if a SQuAD file is given.
        lengths: tokens of a text.
    """

    families: Names | None = None
    lengths: LongLengths = (4000, 16_000)

    @field_validator("families")
    @classmethod
    def _known(cls, families: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if families is not None and (not families or any(one not in FAMILIES for one in families)):
            raise ValueError(f"expected some of {', '.join(FAMILIES)}")
        return families


def streams(settings: RulerSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per sample."""
    families = settings.families
    if families is None:
        families = tuple(one for one in FAMILIES if one != NEEDS_DATA or context.data)
    elif NEEDS_DATA in families and not context.data:
        raise InputError("family 'qa' asks about the passages of a SQuAD file; give one with --data FILE, or leave 'qa' out")
    passages, asked = _passages(context) if NEEDS_DATA in families else ([], [])
    haystack = Haystack(context)
    count = DEFAULT_SAMPLES if context.limit is None else context.limit
    context.left_out.take(f"beyond {count} of a row (--limit)", [one.id for _, one in asked[count:]])
    made = []
    for family in dict.fromkeys(families):
        for length in settings.lengths:
            for number in range(min(count, len(asked)) if family == NEEDS_DATA else count):
                pair = asked[number] if family == NEEDS_DATA else None
                make = partial(_script, haystack, family, length, number, passages, pair)
                made.append(StreamSource(name=f"{family} {short(length)} {number}", seed=context.seed, script=make))
    return made


def _passages(context: TaskContext) -> tuple[list[Passage], list[tuple[Passage, PassageQuestion]]]:
    """All passages, and the questions about them in random order."""
    file = read_passages(context.files()[0])
    asked = [(passage, one) for passage in file.passages for one in passage.questions if one.answers]
    if not asked:
        raise InputError(f"'{file.path}' has no question with an answer; family 'qa' needs a file in SQuAD's form")
    context.left_out.take("the data say that it has no answer", list(file.unanswerable))
    Random(f"mplus ruler questions {context.seed}").shuffle(asked)
    return file.passages, asked


def _script(
    haystack: Haystack,
    family: str,
    length: int,
    number: int,
    passages: Sequence[Passage],
    asked: tuple[Passage, PassageQuestion] | None,
) -> EvalStream:
    context = haystack.context
    rng = Random(f"mplus ruler {family} {context.seed} {length} {number}")
    made = FAMILIES[family](Kit(haystack=haystack, rng=rng, number=number, tokens=length, passages=passages, asked=asked))
    end = sum(len(unit.ids) for unit in made.units)
    name = f"{family} {short(length)} {number}"
    question = context.question(name, made.question, made.answers, made.span, row=f"{family} {short(length)}")
    return context.script([made.units], [(end, ScheduledQuestion(question, end - question.end))])
