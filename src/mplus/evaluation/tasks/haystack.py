"""Running text cut to measure, and texts laid between its sentences. Knows tokens, no task and no model."""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import Annotated, Final

from pydantic import AfterValidator

from mplus.evaluation.schedule.distances import Distances
from mplus.evaluation.schedule.stream import Span, Unit
from mplus.evaluation.tasks.background import background_text
from mplus.evaluation.tasks.context import TaskContext

log = logging.getLogger(__name__)

SHORTEST_TOKENS: Final = 500


def _ordered(lengths: tuple[int, ...]) -> tuple[int, ...]:
    if not lengths or min(lengths) < 0:
        raise ValueError("expected at least one length in tokens, none below 0")
    return tuple(sorted(set(lengths)))


def _long(lengths: tuple[int, ...]) -> tuple[int, ...]:
    if min(lengths) < SHORTEST_TOKENS:
        raise ValueError(f"expected lengths of {SHORTEST_TOKENS} tokens or more")
    return lengths


Lengths = Annotated[Distances, AfterValidator(_ordered)]
"""Tokens of a text, ascending, each once; "4k,16k" is understood."""

LongLengths = Annotated[Lengths, AfterValidator(_long)]
"""The same, none so short that there is no room to hide anything."""


@dataclass(frozen=True)
class Haystack:
    """The running text of a run; nothing of it is turned into tokens before it is needed."""

    context: TaskContext

    @cached_property
    def text(self) -> str:
        """All of it."""
        return background_text(self.context)

    @cached_property
    def paragraphs(self) -> list[str]:
        """Its paragraphs, in order."""
        return [part for part in re.split(r"\n[ \t]*\n", self.text) if part.strip()]

    def sentences(self, rng: Random, tokens: int, *, opens: bool = True) -> list[Unit]:
        """Whole sentences from a random paragraph on, as many as fit into so many tokens; the text starts again at its end.

        Args:
            opens: they open the stream; else a blank line stands before the first one too.
        """
        start = rng.randrange(len(self.paragraphs))
        found: list[Unit] = []
        room, number = tokens, 0
        while True:
            if number == len(self.paragraphs):
                log.warning("the haystack is shorter than %d tokens and is repeated", tokens)
            paragraph = self.paragraphs[(start + number) % len(self.paragraphs)]
            for unit in self.context.units(paragraph, starts_paragraph=bool(found) or not opens):
                if len(unit.ids) > room:
                    return found
                found.append(unit)
                room -= len(unit.ids)
            number += 1


def place_of(filler: Sequence[Unit], share: float) -> int:
    """How many sentences stand before the sentence end that is nearest to a share (0 to 1) of the tokens."""
    ends = [0, *accumulate(len(unit.ids) for unit in filler)]
    wanted = share * ends[-1]
    place = bisect_left(ends, wanted)
    return place - 1 if place and wanted - ends[place - 1] < ends[place] - wanted else place


def laid(filler: Sequence[Unit], planted: Sequence[tuple[int, list[int]]]) -> tuple[list[Unit], list[Span]]:
    """Texts laid between sentences; what is laid behind the end of a paragraph becomes its end.

    Args:
        planted: how many sentences stand before a text (ascending), and its token ids.

    Returns:
        everything in order, and where each planted text stands.
    """
    units: list[Unit] = []
    spans: list[Span] = []
    position = before = 0
    for place, ids in [*planted, (len(filler), list[int]())]:
        units += filler[before:place]
        position += sum(len(unit.ids) for unit in filler[before:place])
        before = place
        if ids:
            ends_paragraph = bool(units) and units[-1].ends_paragraph
            if ends_paragraph:
                units[-1] = replace(units[-1], ends_paragraph=False)
            units.append(Unit(ids=ids, ends_paragraph=ends_paragraph))
            spans.append((position, position + len(ids)))
            position += len(ids)
    return units, spans
