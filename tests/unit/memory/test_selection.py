"""Laws of choosing sources by name and time: all that is given holds, near names are told, nothing is chosen by what is not known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.memory.ledger import SourceInfo
from mplus.memory.selection import Where, chosen, seconds_of


def source(name: str, first: float | None = None, last: float | None = None) -> SourceInfo:
    return SourceInfo(name, 5, 1, first, last, 5, 0, 0, "")


SOURCES = [source("notes/a", 10.0, 20.0), source("notes/b", 30.0, 40.0), source("", 15.0, 15.0), source("old")]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (Where(pattern="notes/*"), ["notes/a", "notes/b"]),
        (Where(pattern="*"), ["notes/a", "notes/b", "", "old"]),
        (Where(pattern="NOTES/*"), []),
        (Where(pattern="notes/[b-z]"), ["notes/b"]),
        (Where(before=20.0), [""]),
        (Where(before=20.5), ["notes/a", ""]),
        (Where(since=30), ["notes/b"]),
        (Where(since=10, before=30), ["notes/a", ""]),
        (Where(pattern="notes/*", since=11), ["notes/b"]),
        (Where(before=datetime.fromtimestamp(41, UTC)), ["notes/a", "notes/b", ""]),
    ],
)
def test_all_that_is_given_holds_and_an_unknown_time_is_never_chosen(where: Where, wanted: list[str]) -> None:
    assert [one.name for one in SOURCES if where.matches(one)] == wanted
    if wanted:
        assert chosen(SOURCES, None, where) == wanted
    else:
        with pytest.raises(InputError, match="no source of 4 is chosen"):
            chosen(SOURCES, None, where)


def test_names_are_taken_once_in_the_order_in_which_they_are_given() -> None:
    assert chosen(SOURCES, "old", None) == ["old"]
    assert chosen(SOURCES, ["old", "", "notes/a", "old"], None) == ["old", "", "notes/a"]


@pytest.mark.parametrize(
    ("given", "where", "told"),
    [
        (None, None, "one of both"),
        ("old", Where(pattern="*"), "one of both"),
        ("notes/c", None, "did you mean 'notes/"),
        (["old", "zzzzzzz"], None, "no source 'zzzzzzz' in this memory; it has 'notes/a', 'notes/b', '', 'old'"),
        (None, "notes/*", "where is a str, expected Where"),
    ],
)
def test_what_names_no_source_is_refused_in_one_sentence(given: Any, where: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as refusal:
        chosen(SOURCES, given, where)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("fields", [{}, {"pattern": 7}, {"before": "monday"}, {"since": float("nan")}, {"before": True}])
def test_a_choice_that_says_nothing_is_refused(fields: Any) -> None:
    with pytest.raises(InputError):
        Where(**fields)


def test_times_are_seconds_or_dates() -> None:
    assert seconds_of(7) == 7.0 and seconds_of(datetime.fromtimestamp(7.5, UTC)) == 7.5
    for wrong in ("now", None, True, float("inf")):
        with pytest.raises(InputError, match="at is"):
            seconds_of(wrong)
