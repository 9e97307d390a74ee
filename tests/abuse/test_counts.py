"""Laws of the counts: sums, rows, and what an exception counts as."""

from __future__ import annotations

from mplus.errors import InputError
from tests.abuse.counts import EXAMPLES, REFUSED, RIGHT, Counts, verdict_of


def test_attempts_add_up_over_rows_and_runs() -> None:
    counts = Counts().with_one("a", RIGHT, "").with_one("b", REFUSED, "").with_one("b", "lost", "here")
    both = counts + counts
    assert (both.tried, both.right, both.refused, both.wrongs) == (6, 2, 2, 2)
    assert both.tried == sum(row.tried for row in both.rows.values())
    assert both.first_example() == "lost: here"


def test_only_the_first_examples_are_kept() -> None:
    counts = Counts()
    for number in range(EXAMPLES + 4):
        counts = counts.with_one("a", "lost", str(number))
    assert counts.examples["lost"] == tuple(map(str, range(EXAMPLES)))
    assert counts.wrong == {"lost": EXAMPLES + 4}


def test_only_one_sentence_of_ours_is_a_refusal() -> None:
    assert verdict_of(InputError("too long; cut it"))[0] == REFUSED
    assert verdict_of(InputError("two\nlines"))[0] == "raised InputError"
    assert verdict_of(ValueError("bare"))[0] == "raised ValueError"
