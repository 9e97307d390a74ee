"""Distances in tokens: as a person types them, as a picture shows them, and how exactly they are kept. Knows nothing of models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from mplus.errors import InputError

AT_ONCE_TOKENS: Final = 64  # distance 0 is asked with at most so much text behind the passage
_SHARE: Final = 0.05
_NEAR_TOKENS: Final = 1000
_UNIT: Final = {"": 1, "k": 1000, "m": 1_000_000}
_ONE: Final = re.compile(r"(\d+(?:\.\d+)?)([km]?)")


def parse_distances(text: str, *, smallest: int = 0) -> list[int]:
    """Distances from a list like "0,4k,16k,1m" ("4k" is 4,000), ascending, each once.

    Raises:
        InputError: an entry is no distance, or below ``smallest``.
    """
    found = set()
    for entry in text.split(","):
        match = _ONE.fullmatch(entry.strip().lower().replace("_", ""))
        if match is None:
            raise InputError(f"distance '{entry.strip()}' is no number of tokens; expected a list like {smallest},4k,16k,160k")
        distance = round(float(match[1]) * _UNIT[match[2]])
        if distance < smallest:
            raise InputError(f"distance {distance} is too small, expected {smallest} tokens or more")
        found.add(distance)
    return sorted(found)


def short(tokens: int) -> str:
    """How a distance is written: 500, 4k, 1m."""
    if tokens >= 1_000_000:
        return f"{tokens / 1_000_000:.3g}m"
    return f"{tokens / 1000:.3g}k" if tokens >= 1000 else str(tokens)


def passage_tolerance(distance: int) -> int:
    """Tokens that the text behind a passage may be off: 5 %, and 64 tokens at distance 0."""
    return max(int(_SHARE * distance), AT_ONCE_TOKENS if distance < AT_ONCE_TOKENS / _SHARE else 0)


def fact_tolerance(distance: int) -> int:
    """Tokens that the text behind a generated fact may be off: 5 %, and 25 % up to 1,000 tokens."""
    return int((0.25 if distance <= _NEAR_TOKENS else _SHARE) * distance)


def within(distances: Sequence[int], tokens: int) -> list[int]:
    """The distances of at most so many tokens."""
    return [distance for distance in distances if distance <= tokens]


def _distances(value: Any) -> Any:
    """Distances or lengths as a person types them ("4k,16k", ["4k", 16000], 4000) in tokens; anything else is left to pydantic."""
    if isinstance(value, str):
        return tuple(parse_distances(value))
    if isinstance(value, (list, tuple)):
        return tuple(parse_distances(one)[0] if isinstance(one, str) else one for one in value)
    return _several(value)


def _seeds(value: Any) -> Any:
    if not isinstance(value, str):
        return _several(value)
    entries = [entry.strip() for entry in value.split(",")]
    if not all(entry.isdigit() for entry in entries):
        raise InputError(f"seeds are '{value}', expected whole numbers like 0,1,2")
    return tuple(dict.fromkeys(map(int, entries)))


def _several(value: Any) -> Any:
    """One value as a list of one."""
    return (value,) if isinstance(value, (int, str)) and not isinstance(value, bool) else value


def _names(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


Distances = Annotated[tuple[int, ...], BeforeValidator(_distances)]
"""Tokens, as a list or typed like "0,4k,16k"."""
Seeds = Annotated[tuple[int, ...], BeforeValidator(_seeds)]
"""Seeds, as a list or typed like "0,1,2"."""
Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]
"""Texts; one alone is a list of one."""
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
"""Names, as a list or typed like "qa1,qa2"."""
