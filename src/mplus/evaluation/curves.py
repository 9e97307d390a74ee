"""The picture of a run: accuracy over distance, a line with its 95 % band for every system. Knows summaries, nothing of models."""

from __future__ import annotations

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
_INK: Final = "#333333"


def draw_curves(summary: Summary, path: str | Path) -> None:
    """Write a PNG; distances stand at equal steps, a system that was asked at one distance only is a level dashed line."""
    data = summary.to_json()["systems"]
    distances = sorted({distance for system in data.values() for distance in system["distances"]})
    figure = Figure(figsize=(8.5, 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, system in data.items():
        colour, marker = _LOOK.get(name, (_INK, "o"))
        label = NAMES.get(name, name)
        if len(system["distances"]) == 1 < len(distances):
            axes.axhline(system["accuracy"][0], color=colour, linestyle="--", linewidth=1.5, label=label)
            continue
        places = [distances.index(distance) for distance in system["distances"]]
        axes.fill_between(places, system["low"], system["high"], color=colour, alpha=0.13, linewidth=0)
        axes.plot(places, system["accuracy"], color=colour, marker=marker, markersize=5, linewidth=2, label=label)
    axes.set_xticks(range(len(distances)), [short(distance) for distance in distances])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("tokens read since", color=_INK)
    axes.set_ylabel("share of questions answered right", color=_INK)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    asked = [count for system in data.values() for count in system["asked"]]
    questions = str(asked[0]) if len(set(asked)) == 1 else f"{min(asked)}-{max(asked)}"
    title = f"{summary.model}: {summary.task}, {questions} questions per distance (bands: 95 %)"
    axes.set_title(title, loc="left", fontsize=11, color=_INK)
    figure.legend(loc="outside lower center", ncols=len(data), frameon=False, fontsize=9)
    figure.savefig(path, format="png")
