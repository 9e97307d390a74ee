"""One long text, and the same short question at growing lengths, where speed and size are measured. Knows tokens, no models."""

from __future__ import annotations

from pydantic import Field, field_validator

from mplus.evaluation.schedule.distances import Distances
from mplus.evaluation.schedule.stream import Question, ScheduledQuestion, Unit
from mplus.evaluation.tasks.background import background_text
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext

DEFAULT_TURNS = 3


class EfficiencySettings(Settings):
    """Settings of the task file.

    Attributes:
        lengths: tokens read when it is asked.
        question: asked each time.
    """

    lengths: Distances = (1000, 4000, 16_000, 64_000, 160_000)
    question: str = Field(default="What is this text about, and who appears in it?", min_length=1)

    @field_validator("lengths")
    @classmethod
    def _some(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if not lengths or min(lengths) < 1:
            raise ValueError("expected at least one length, none below 1")
        return tuple(sorted(set(lengths)))


def streams(settings: EfficiencySettings, context: TaskContext) -> list[StreamSource]:
    """One stream: the text, repeated if it is too short."""
    units, longest = context.units(background_text(context)), settings.lengths[-1]
    ids = [token for unit in units for token in unit.ids]
    text: list[Unit] = []
    for _ in range(-(-longest // len(ids))):
        text += units
    asked = []
    for length in settings.lengths:
        for turn in range(context.limit or DEFAULT_TURNS):
            name = f"{length} turn {turn}"
            question = Question(
                id=name, cluster=name, text=context.task.message(settings.question), answers=(), span=(0, 0), answer_span=(0, 0)
            )
            asked.append((length, ScheduledQuestion(question, length)))
    return [StreamSource(name="text", seed=context.seed, script=context.script([_cut(text, longest)], asked))]


def _cut(units: list[Unit], tokens: int) -> list[Unit]:
    """The first so many tokens."""
    kept, left = list[Unit](), tokens
    for unit in units:
        kept.append(Unit(ids=unit.ids[:left], ends_paragraph=unit.ends_paragraph))
        left -= len(unit.ids)
        if left <= 0:
            break
    return kept
