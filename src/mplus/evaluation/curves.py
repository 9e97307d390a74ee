"""Pictures of accuracy over distance: a line with its band for every system. Knows shares, nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mplus.evaluation.distances import short
from mplus.evaluation.summary import NAMES, Summary

_LOOK: Final = {
    "mplus": ("#0b6e4f", "o"),
    "memoryllm": ("#c8553d", "s"),
    "window": ("#5b6c8f", "^"),
    "passage": ("#8a6d1d", "D"),
}
_FURTHER: Final = (
    ("#6a4c93", "v"),
    ("#1982c4", "P"),
    ("#b5179e", "X"),
    ("#7a9e00", "<"),
    ("#e07a00", ">"),
    ("#4a4a4a", "h"),
    ("#00a6a6", "*"),
)
_INK: Final = "#333333"
_LEGEND_COLUMNS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Line:
    """One system's shares at its distances, ascending, with the band around them."""

    system: str
    label: str
    distances: Sequence[int]
    shares: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def draw_curves(summary: Summary, path: str | Path) -> None:
    """Write the PNG of one run; bands are 95 % intervals."""
    data = summary.to_json()["systems"]
    lines = [
        Line(
            system=name,
            label=NAMES.get(name, name),
            distances=one["distances"],
            shares=one["accuracy"],
            low=one["low"],
            high=one["high"],
        )
        for name, one in data.items()
    ]
    asked = [count for one in data.values() for count in one["asked"]]
    questions = str(asked[0]) if len(set(asked)) == 1 else f"{min(asked)}-{max(asked)}"
    draw_lines(lines, path, title=f"{summary.model}: {summary.task}, {questions} questions per distance (bands: 95 %)")


def draw_lines(lines: Sequence[Line], path: str | Path, *, title: str) -> None:
    """Write a PNG; distances stand at equal steps, a system that was asked at one distance only is a level dashed line."""
    distances = sorted({distance for line in lines for distance in line.distances})
    figure = Figure(figsize=(8.5, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    further, used = cycle(_FURTHER), set[str]()
    for line in lines:
        colour, marker = next(further) if line.system in used or line.system not in _LOOK else _LOOK[line.system]
        used.add(line.system)
        if len(line.distances) == 1 < len(distances):
            axes.axhline(line.shares[0], color=colour, linestyle="--", linewidth=1.5, label=line.label)
            continue
        places = [distances.index(distance) for distance in line.distances]
        axes.fill_between(places, line.low, line.high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(places, line.shares, color=colour, marker=marker, markersize=5, linewidth=2, label=line.label)
    axes.set_xticks(range(len(distances)), [short(distance) for distance in distances])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("tokens read since", color=_INK)
    axes.set_ylabel("share of questions answered right", color=_INK)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    figure.legend(loc="outside lower center", ncols=min(_LEGEND_COLUMNS, len(lines)), frameon=False, fontsize=9)
    figure.savefig(path, format="png")
