"""Laws of the rank of a right span: half of it must be held, equal numbers share a rank, what was not read has none."""

from __future__ import annotations

import pytest

from mplus import Passage, Trace
from mplus.errors import InputError
from mplus.evaluation.scoring.right_span import rank_of_source, rank_of_span


def passage(source: str, start: int, stop: int, score: float | None, attention: float = 0.1) -> Passage:
    return Passage(
        source=source, start=start, stop=stop, text="", tokens=stop - start, long_term=0, retrieved=True, to_prompt=0, score=score,
        attention=attention,
    )  # fmt: skip


TRACE = Trace(
    passages=(
        passage("a", 0, 10, 9.0, 0.01),
        passage("b", 0, 10, 7.0, 0.2),
        passage("b", 10, 20, 7.0, 0.1),
        passage("c", 5, 9, None, 0.3),
    ),
    bos_attention=0.1,
)


@pytest.mark.parametrize(
    ("source", "span", "rank", "by_attention"),
    [
        ("a", (2, 6), 1, 4),
        ("a", (8, 12), 1, 4),  # half of it
        ("a", (8, 13), None, None),  # less than half
        ("b", (8, 12), 2, 2),  # in both: the better one counts
        ("b", (12, 14), 2, 3),  # the score is shared, the attention is not
        ("c", (5, 9), None, 1),  # read, but not scored
        ("d", (0, 4), None, None),
    ],
)
def test_rank_of_a_span(source: str, span: tuple[int, int], rank: int | None, by_attention: int | None) -> None:
    assert rank_of_span(TRACE, source, span) == rank
    assert rank_of_span(TRACE, source, span, "attention") == by_attention


def test_rank_of_a_source() -> None:
    assert [rank_of_source(TRACE, name) for name in ("a", "b", "c", "d")] == [1, 2, 3, None]
    assert [rank_of_source(TRACE, name, "attention") for name in ("a", "b", "c")] == [3, 1, 2]
    with pytest.raises(InputError, match="attention was not measured"):
        rank_of_source(Trace(passages=TRACE.passages), "a", "attention")
