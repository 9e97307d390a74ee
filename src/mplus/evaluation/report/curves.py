"""Pictures of scores over distance: a line with its band for every system. Knows scores, nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from mplus.evaluation.schedule.distances import short
from mplus.runtime.extras import figure_of

LOOK: Final = {
    "mplus": ("#0b6e4f", "o"),
    "memoryllm": ("#c8553d", "s"),
    "full": ("#222222", "*"),
    "window": ("#5b6c8f", "^"),
    "bm25": ("#b5179e", "X"),
    "passage": ("#8a6d1d", "D"),
}
_FURTHER: Final = (
    ("#6a4c93", "v"),
    ("#1982c4", "P"),
    ("#7a9e00", "<"),
    ("#e07a00", ">"),
    ("#4a4a4a", "h"),
    ("#00a6a6", "d"),
)
INK: Final = "#333333"
_LEGEND_COLUMNS: Final = 4
SHARE: Final = "share of questions answered right"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One system's shares at its distances, ascending, with the band around them."""

    system: str
    label: str
    distances: Sequence[int]
    shares: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def looks(systems: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and marker of each system, none twice."""
    further, used, found = cycle(_FURTHER), set[str](), []
    for system in systems:
        found.append(next(further) if system in used or system not in LOOK else LOOK[system])
        used.add(system)
    return found


def draw_lines(lines: Sequence[Line], path: str | Path, *, title: str, score: str = SHARE) -> None:
    """Write a PNG; distances stand at equal steps, a system that was asked at one distance only is a level dashed line.

    Args:
        score: what the vertical axis is; anything but a share grows as large as it has to.
    """
    figure = figure_of(figsize=(8.5, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    plot_lines(axes, lines)
    if all(value <= 1.0 for line in lines for value in (*line.shares, *line.high)):
        axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(score, color=INK)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(_LEGEND_COLUMNS if max(len(line.label) for line in lines) <= 24 else _LEGEND_COLUMNS - 1, len(lines)),
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, format="png")


def plot_lines(axes: Any, lines: Sequence[Line]) -> None:
    """Lines and bands on given axes."""
    distances = sorted({distance for line in lines for distance in line.distances})
    for line, (colour, marker) in zip(lines, looks([line.system for line in lines]), strict=True):
        if not line.distances:
            continue
        if len(line.distances) == 1 < len(distances):
            axes.axhline(line.shares[0], color=colour, linestyle="--", linewidth=1.5, label=line.label)
            continue
        places = [distances.index(distance) for distance in line.distances]
        axes.fill_between(places, line.low, line.high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(places, line.shares, color=colour, marker=marker, markersize=5, linewidth=2, label=line.label)
    axes.set_xticks(range(len(distances)), [short(distance) for distance in distances])
    axes.set_xlabel("tokens read since", color=INK)
    dress(axes)


def dress(axes: Any) -> None:
    """The quiet look of all pictures."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
