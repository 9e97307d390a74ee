"""Texts of several sources with statements laid between their sentences, for generated tasks. Knows tokens, no task and no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Final

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import EvalStream, SourceStart, Span, Unit
from mplus.evaluation.tasks.context import StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack, laid, place_of

_MOST_FILLED: Final = 0.6
"""Share of a source that statements may make up."""

_FIRST_DAY: Final = datetime(2031, 1, 6, 9, tzinfo=UTC)
_DAYS: Final = 7  # between two sources


@dataclass
class Source:
    """A source to be laid out: its name, its day, and statements by their key, in order, each with its share (0 to 1) of the source."""

    name: str
    day: datetime
    statements: list[tuple[str, float, str]] = field(default_factory=list)

    @property
    def date(self) -> str:
        """The day in words."""
        return f"{self.day.day} {self.day:%B %Y}"


@dataclass(frozen=True, kw_only=True)
class PlantedText:
    """A text with its sources and the place of every statement."""

    units: list[Unit]
    sources: dict[int, SourceStart]
    spans: dict[str, Span]

    @property
    def tokens(self) -> int:
        """Its length."""
        return sum(len(unit.ids) for unit in self.units)


def sources(count: int, what: str = "notes") -> list[Source]:
    """Empty sources, a week between each two."""
    return [Source(f"{what} {number + 1}", _FIRST_DAY + timedelta(days=_DAYS * number)) for number in range(count)]


def texts(
    context: TaskContext, questions: int, room: int, script: Callable[[str, int], EvalStream], name: str = "text"
) -> list[StreamSource]:
    """Texts until each row has its questions.

    Args:
        questions: of a row, where the run has no limit.
        room: questions of a row that one text holds.
        script: makes a text from its name and how many questions of a row it has.
        name: each text has it, with a number.
    """
    wanted = questions if context.limit is None else context.limit
    counts = {f"{name} {number}": min(room, wanted - number * room) for number in range(-(-wanted // room))}
    return [StreamSource(name=text, seed=context.seed, script=partial(script, text, count)) for text, count in counts.items()]


def planted(haystack: Haystack, rng: Random, parts: Sequence[Source], tokens: int) -> PlantedText:
    """Lay statements into running text of so many tokens in all, which the sources share evenly.

    Raises:
        InputError: there are more statements than a text of this length holds.
    """
    units, starts, spans, position = list[Unit](), dict[int, SourceStart](), dict[str, Span](), 0
    for part in parts:
        starts[position] = SourceStart(part.name, part.day.timestamp())
        laid_out, places = _laid_out(haystack, rng, part, tokens // len(parts), opens=not units)
        for (key, _, _), (start, end) in zip(part.statements, places, strict=True):
            spans[key] = (position + start, position + end)
        units += laid_out
        position += sum(len(unit.ids) for unit in laid_out)
    return PlantedText(units=units, sources=starts, spans=spans)


def _laid_out(haystack: Haystack, rng: Random, part: Source, tokens: int, *, opens: bool) -> tuple[list[Unit], list[Span]]:
    part.statements.sort(key=lambda one: one[1])
    ids = [haystack.context.encode(" " + text) for _, _, text in part.statements]
    needed = sum(map(len, ids))
    if needed > _MOST_FILLED * tokens:
        raise InputError(
            f"{len(ids)} statements of {needed} tokens are too many for {tokens} tokens of source '{part.name}'; "
            "give longer texts, or ask fewer questions of a text"
        )
    filler = haystack.sentences(rng, tokens - needed, opens=opens)
    if not filler:
        raise InputError(f"source '{part.name}' of {tokens} tokens has no room for a sentence of running text; give longer texts")
    places = [max(1, place_of(filler, share)) for _, share, _ in part.statements]
    return laid(filler, list(zip(places, ids, strict=True)))
