"""The picture of a run: lines over distance, bars over subtasks, a map of lengths and depths, or panels of speed. Knows scores only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mplus.evaluation.report.curves import INK, SHARE, Line, draw_lines, dress, looks, plot_lines
from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.report.summary import MEASURES, NAMES, Summary
from mplus.runtime.extras import figure_of

_MOST_COLUMNS: Final = 3
_OTHER: Final = {"likelihood": "perplexity", "reading": "share of right long-term tokens read"}


def draw_summary(summary: Summary, path: str | Path) -> None:
    """Write the PNG of one run; bands and whiskers are 95 % intervals."""
    if summary.measure == "speed":
        _draw_speed(summary, path)
    elif any(sample.column for sample in summary.samples):
        _draw_maps(summary, path)
    else:
        score = score_of(summary.measure, summary.context.get("metric"))
        if summary.by_distance:
            draw_lines(lines_of(summary), path, title=_title(summary), score=score)
        else:
            draw_bars(lines_of(summary), summary.rows_in_order, path, title=_title(summary), score=score)


def lines_of(summary: Summary) -> list[Line]:
    """A line per system; where reading was measured also what chance would read."""
    places = {row: number for number, row in enumerate(summary.rows_in_order)}
    lines = [
        Line(
            system=name,
            label=NAMES.get(name, name),
            distances=one.get("distances") or [places[row] for row in one["rows"]],
            shares=one["accuracy"],
            low=one["low"],
            high=one["high"],
        )
        for name, one in summary.to_json()["systems"].items()
    ]
    if summary.measure == "reading":
        for name, drawn in summary.to_json()["retrieval"].items():
            chance = {
                row: statistics.fmean(one) for row, one in zip(drawn["rows"], drawn["chance"], strict=True) if None not in one
            }
            at = drawn.get("distances") or [places[row] for row in drawn["rows"]]
            where, shares = [place for place, row in zip(at, drawn["rows"], strict=True) if row in chance], list(chance.values())
            label = f"chance, {NAMES.get(name, name)}"
            lines.append(Line(system="chance", label=label, distances=where, shares=shares, low=shares, high=shares))
    return lines


def score_of(measure: str, metric: str | None) -> str:
    """The name of a run's score, for an axis."""
    if measure in _OTHER:
        return _OTHER[measure]
    return SHARE if metric in (None, "contained", "value", "exact") else f"score ({metric})"


def _title(summary: Summary) -> str:
    asked = [count for one in summary.to_json()["systems"].values() for count in one["asked"]]
    count = "no" if not asked else str(asked[0]) if len(set(asked)) == 1 else f"{min(asked)}-{max(asked)}"
    what = "texts" if summary.measure == "likelihood" else "questions"
    return f"{summary.model}: {summary.task}, {count} {what} per {'distance' if summary.by_distance else 'row'} (95 %)"


def draw_bars(lines: Sequence[Line], rows: Sequence[str], path: str | Path, *, title: str, score: str) -> None:
    """Write a PNG with a group of bars per row and a bar per system; whiskers are the bands.

    Args:
        lines: their distances are places in ``rows``; one without any is left out.
    """
    lines = [line for line in lines if line.shares]
    figure = figure_of(figsize=(max(7.0, 0.28 * len(rows) * len(lines) + 3), 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / max(len(lines), 1)
    for number, (line, (colour, _)) in enumerate(zip(lines, looks([line.system for line in lines]), strict=True)):
        places = [place + (number - (len(lines) - 1) / 2) * width for place in line.distances]
        errors = [
            [max(share - low, 0.0) for share, low in zip(line.shares, line.low, strict=True)],
            [max(high - share, 0.0) for share, high in zip(line.shares, line.high, strict=True)],
        ]
        axes.bar(places, line.shares, width * 0.92, color=colour, label=line.label)
        axes.errorbar(places, line.shares, errors, fmt="none", ecolor="#7a7a7a", elinewidth=1.0, capsize=1.5)
    tilted = max(map(len, rows), default=0) * len(rows) > 70
    axes.set_xticks(range(len(rows)), rows, rotation=30 if tilted else 0, ha="right" if tilted else "center")
    axes.set_ylabel(score, color=INK)
    dress(axes)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(4, max(len(lines), 1)), frameon=False, fontsize=9
    )
    figure.savefig(path, format="png")


def _draw_maps(summary: Summary, path: str | Path) -> None:
    """A map per system: lengths across, depths down."""
    systems, rows = summary.systems, summary.rows_in_order
    columns = sorted({one.column for one in summary.samples}, key=_number)
    across = min(_MOST_COLUMNS, len(systems))
    down = -(-len(systems) // across)
    figure = figure_of(figsize=(3.0 + 2.6 * across, 1.2 + 2.3 * down), dpi=150, layout="constrained")
    grid: Any = figure.subplots(down, across, squeeze=False)
    drawn = None
    for number, axes in enumerate(grid.flat):
        if number >= len(systems):
            axes.set_visible(False)
            continue
        own = [one for one in summary.samples if one.system == systems[number] and one.asked]
        table = [[_mean([one for one in own if (one.row, one.column) == (row, column)]) for row in rows] for column in columns]
        drawn = axes.imshow(table, vmin=0, vmax=1, cmap="RdYlGn", aspect="auto")
        axes.set_xticks(range(len(rows)), rows, fontsize=7)
        axes.set_yticks(range(len(columns)), columns, fontsize=7)
        axes.set_title(NAMES.get(systems[number], systems[number]), fontsize=9, color=INK)
        axes.tick_params(colors=INK, length=2)
    figure.supxlabel("tokens read", fontsize=9, color=INK)
    figure.supylabel("depth of the needle", fontsize=9, color=INK)
    figure.suptitle(
        f"{summary.model}: {summary.task} (white: not asked, the text does not fit)", fontsize=11, color=INK, x=0.01, ha="left"
    )
    if drawn is not None:
        figure.colorbar(drawn, ax=grid, shrink=0.8, label="score")
    figure.savefig(path, format="png")


def _draw_speed(summary: Summary, path: str | Path) -> None:
    """A panel per measure, on a logarithmic scale."""
    data = summary.to_json()["systems"]
    places = {row: number for number, row in enumerate(summary.rows_in_order)}
    names = next((list(one["measures"]) for one in data.values() if "measures" in one), [])
    figure = figure_of(figsize=(3.6 * max(len(names), 1), 4.2), dpi=150, layout="constrained")
    grid: Any = figure.subplots(1, max(len(names), 1), squeeze=False)
    for axes, name in zip(grid.flat, names, strict=False):
        lines = [
            Line(system=system, label=NAMES.get(system, system), distances=one.get("distances") or [places[row] for row in one["rows"]],
                 shares=one["measures"][name], low=one["measures"][name], high=one["measures"][name])
            for system, one in data.items() if "measures" in one
        ]  # fmt: skip
        plot_lines(axes, lines)
        axes.set_yscale("log")
        axes.set_title(MEASURES.get(name, name), loc="left", fontsize=10, color=INK)
        axes.set_xlabel("tokens read", color=INK)
        axes.tick_params(axis="x", labelsize=8)
    figure.suptitle(f"{summary.model}: {summary.task}", fontsize=11, color=INK, x=0.01, ha="left")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, max(len(labels), 1)), frameon=False, fontsize=9)
    figure.savefig(path, format="png")


def _mean(group: Sequence[Sample]) -> float:
    return statistics.fmean(one.score for one in group) if group else float("nan")


def _number(column: str) -> float:
    """The number a depth like "50 %" begins with."""
    digits = column.split()[0].rstrip("%")
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0
