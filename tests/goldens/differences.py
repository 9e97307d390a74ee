"""Differences of two pieces of plain data: exact for texts and whole numbers, within a tolerance for real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def differences(recorded: Any, computed: Any, tolerance: float, place: str = "") -> Iterator[str]:
    """One sentence for each value that differs.

    Args:
        tolerance: largest distance of two real numbers that count as equal, relative to the larger one where that exceeds 1.
        place: where in the data the two stand.
    """
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for name in recorded.keys() | computed.keys():
            if name not in recorded or name not in computed:
                yield f"{place}/{name}: only {'recorded' if name in recorded else 'computed'}"
            else:
                yield from differences(recorded[name], computed[name], tolerance, f"{place}/{name}")
    elif isinstance(recorded, list) and isinstance(computed, list):
        if len(recorded) != len(computed):
            yield f"{place}: {len(recorded)} entries recorded, {len(computed)} computed"
        for number, pair in enumerate(zip(recorded, computed, strict=False)):
            yield from differences(*pair, tolerance, f"{place}/{number}")
    elif isinstance(recorded, float) and isinstance(computed, (int, float)):
        if abs(recorded - computed) > tolerance * max(1.0, abs(recorded)):
            yield f"{place}: {recorded!r} recorded, {computed!r} computed"
    elif recorded != computed:
        yield f"{place}: {recorded!r:.200} recorded, {computed!r:.200} computed"


def largest(recorded: Any, computed: Any) -> float:
    """Largest distance of two real numbers at the same place."""
    if isinstance(recorded, dict) and isinstance(computed, dict):
        return max((largest(recorded[name], computed[name]) for name in recorded.keys() & computed.keys()), default=0.0)
    if isinstance(recorded, list) and isinstance(computed, list):
        return max((largest(*pair) for pair in zip(recorded, computed, strict=False)), default=0.0)
    return abs(recorded - computed) if isinstance(recorded, float) and isinstance(computed, (int, float)) else 0.0
