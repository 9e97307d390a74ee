"""Times of several ways to do one thing, taken in turns, and their ratios. Knows nothing of models.

Times on a shared machine drift; a ratio of neighbours in one round does not. So every round runs each side once, every other round
in reversed order, and a ratio is the median over rounds. Garbage collection and the first, warming turns stand outside the clock.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Measure = Callable[[], float]
"""Does the work once and gives the seconds it took; what it prepares is not in them."""

Seconds = dict[str, list[float]]
"""Side to its seconds, one entry a round."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the rounds."""

    median: float
    low: float
    high: float


def timed(act: Callable[[], Any]) -> float:
    """Seconds `act` takes, until the accelerator is done too."""
    _wait()
    start = time.perf_counter()
    act()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def interleaved(sides: Mapping[str, Measure], rounds: int, *, warm_up: int = 1) -> Seconds:
    """Measure all sides in turns.

    Args:
        sides: name to measure.
        rounds: how often each is measured.
        warm_up: turns of each side before, thrown away.
    """
    names = list(sides)
    for _ in range(warm_up):
        for name in names:
            sides[name]()
    seconds: Seconds = {name: [] for name in names}
    was_on = gc.isenabled()
    try:
        for number in range(rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                gc.collect()
                gc.disable()
                seconds[name].append(sides[name]())
                gc.enable()
    finally:
        (gc.enable if was_on else gc.disable)()
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; of fewer than two values all three are the same."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Ratio of two sides of one ``interleaved``, round by round."""
    return spread([high / low for high, low in zip(above, below, strict=True)])
