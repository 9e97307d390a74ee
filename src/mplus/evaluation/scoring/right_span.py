"""Where the passage that a question needs stands among all that was read. Knows traces, no memory and no model."""

from __future__ import annotations

from typing import Final

from mplus.evaluation.schedule.stream import Span
from mplus.trace.trace import By, Passage, Trace

_NOTHING: Final = float("-inf")


def rank_of_span(trace: Trace, source: str, span: Span, by: By = "score") -> int | None:
    """Rank of the best passage that holds at least half of a span of a source; None: it was not read.

    Passages with the same number share a rank.

    Args:
        span: in the source's tokens.
    """
    right = [
        one for one in trace.passages if one.source == source and 2 * _overlap(one.start, one.stop, span) >= span[1] - span[0]
    ]
    best = max((_value(one, by) for one in right), default=None)
    if best is None or best == _NOTHING:
        return None
    return 1 + sum(_value(one, by) > best for one in trace.passages)


def rank_of_source(trace: Trace, source: str, by: By = "score") -> int | None:
    """Rank of a source among all that were read; None: it was not."""
    return next((number for number, one in enumerate(trace.ranked_sources(by), 1) if one.name == source), None)


def _value(passage: Passage, by: By) -> float:
    value = passage.score if by == "score" else passage.attention
    return _NOTHING if value is None else value


def _overlap(start: int, stop: int, span: Span) -> int:
    return max(0, min(stop, span[1]) - max(start, span[0]))
