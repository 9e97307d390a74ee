"""At which places of a text reading stops to ask, so that few stops serve many questions. Knows positions only."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class QueryWindow:
    """Where a question may be asked: at any position from ``first`` to ``last``, best at ``best``."""

    first: int
    best: int
    last: int


def choose_query_points(windows: Sequence[QueryWindow], fixed: Iterable[int], places: Sequence[int], apart: int) -> list[int]:
    """A stop for every window; stops that are there anyway serve first, then one new stop serves all windows it can.

    Args:
        windows: of all questions.
        fixed: positions where reading stops anyway.
        places: ascending positions where a stop would be natural (sentence ends).
        apart: new stops keep this many tokens from others where they can.

    Returns:
        for every window, the position of its stop.
    """
    stops = sorted(set(fixed))
    waiting = sorted((window for window in windows if not _inside(stops, window)), key=lambda window: window.last)
    while waiting:
        together = [window for window in waiting if window.first <= waiting[0].last]  # all of them hold the first one's last
        insort(stops, _new_stop(together, stops, places, apart))
        waiting = [window for window in waiting if not _inside(stops, window)]
    return [min(_inside(stops, window), key=lambda stop: abs(stop - window.best)) for window in windows]


def _inside(stops: list[int], window: QueryWindow) -> list[int]:
    return stops[bisect_left(stops, window.first) : bisect_right(stops, window.last)]


def _new_stop(together: Sequence[QueryWindow], stops: list[int], places: Sequence[int], apart: int) -> int:
    """A place in all these windows: natural if there is one, near to what is best for them."""
    first, last = max(window.first for window in together), together[0].last
    best = statistics.median(window.best for window in together)
    natural = places[bisect_left(places, first) : bisect_right(places, last)]
    for choice in (natural, range(first, last + 1)):
        free = [place for place in choice if _gap(stops, place) >= apart]
        if free:
            return min(free, key=lambda place: abs(place - best))
    return last


def _gap(stops: list[int], place: int) -> int:
    at = bisect_left(stops, place)
    return min((abs(place - stop) for stop in stops[max(0, at - 1) : at + 1]), default=1 << 60)
