"""A picture of refusals: what is refused rightly against wrongly, and whether a confidence is the share that it says. Knows scores only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mplus.evaluation.scoring.refusals import WRONGLY, Judged, area
from mplus.runtime.extras import figure_of

_COLOURS: Final = ("#0b6e4f", "#c8553d", "#5b6c8f", "#b5179e")
_BINS: Final = 10


def draw_refusals(seeds: Sequence[Sequence[Judged]], path: str | Path, *, title: str) -> None:
    """Write a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = figure_of(figsize=(9.5, 4.4), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, judged in enumerate(seeds):
        _curve(left, judged, _COLOURS[number % len(_COLOURS)], f"seed {number}")
    left.axvline(WRONGLY, color="#999999", linewidth=0.8, linestyle=":")
    left.set_xlabel("share of right answers that is refused")
    left.set_ylabel("share of questions without an answer that is refused")
    left.set_xlim(-0.01, 0.5)
    left.set_ylim(0, 1.02)
    left.legend(frameon=False, loc="lower right")
    _reliability(right, [one for judged in seeds for one in judged])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path)


def _curve(axes: Any, judged: Sequence[Judged], colour: str, name: str) -> None:
    right = [one.confidence for one in judged if one.is_present and one.is_right]
    absent = [one.confidence for one in judged if not one.is_present]
    minima = sorted({*right, *absent, 1.0})
    wrongly = [sum(one < least for one in right) / len(right) for least in minima]
    rightly = [sum(one < least for one in absent) / len(absent) for least in minima]
    label = f"{name}, area {area(judged, right_only=True):.2f}"
    axes.step([0.0, *wrongly], [0.0, *rightly], where="post", color=colour, label=label)


def _reliability(axes: Any, judged: Sequence[Judged]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for number in range(_BINS):
        held = [one for one in judged if min(int(one.confidence * _BINS), _BINS - 1) == number]
        if held:
            share = sum(one.is_present for one in held) / len(held)
            axes.scatter(
                [sum(one.confidence for one in held) / len(held)], [share], s=10 + len(held), color=_COLOURS[0], alpha=0.7
            )
    axes.set_xlabel("confidence")
    axes.set_ylabel("share of questions whose answer memory holds")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
