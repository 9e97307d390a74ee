"""Laws of times that are typed."""

from __future__ import annotations

from datetime import datetime

import pytest

from mplus.errors import InputError
from mplus.runtime.times import seconds_of_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-28", datetime(2026, 11, 28).timestamp()),
        (" 2026-11-28 18:30", datetime(2026, 11, 28, 18, 30).timestamp()),
        ("2026-11-28T18:30:00Z", 1795890600.0),
        ("2026-11-28T18:30:00+01:00", 1795887000.0),
        ("1795890600", 1795890600.0),
        ("-1.5", -1.5),
    ],
)
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert seconds_of_text(text) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "nan", "inf", "1e300", "28.11.2026"])
def test_what_is_no_time_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"is no time; expected '2026-11-28'"):
        seconds_of_text(text)
