"""Times as a person types them, in seconds since 1970. Knows no clock."""

from __future__ import annotations

from datetime import datetime

from mplus.errors import InputError

EXAMPLES = "'2026-11-28', '2026-11-28 18:30', '2026-11-28T18:30:00+01:00' or seconds since 1970"


def seconds_of_text(text: str) -> float:
    """Seconds since 1970 of a date, a date with a time (of this machine's zone where it names none), or of that number.

    Raises:
        InputError: it is none of these.
    """
    word = text.strip()
    try:
        return datetime.fromisoformat(word).timestamp()
    except (ValueError, OverflowError, OSError):  # beyond the years that a system knows
        pass
    try:
        seconds = float(word)
        datetime.fromtimestamp(seconds)
        return seconds
    except (ValueError, OverflowError, OSError):
        raise InputError(f"{text!r:.60} is no time; expected {EXAMPLES}") from None
