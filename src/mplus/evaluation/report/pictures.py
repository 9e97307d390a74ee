"""Pictures of results: lines over distance, bars over subtasks, a map of lengths and depths, panels of speed, and the demo's. Knows scores only."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.report.retention import SYSTEMS, WINDOW_LONG, Retention
from mplus.evaluation.report.summary import MEASURES, NAMES, Summary
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.evaluation.systems.protocol import LONG_ANSWER_TOKENS
from mplus.runtime.extras import figure_of, require

_LOOK: Final = {
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
_INK: Final = "#333333"
SHARE: Final = "share of questions answered right"
_MOST_COLUMNS: Final = 3
_OTHER: Final = {"likelihood": "perplexity", "reading": "share of right long-term tokens read"}
_LABEL_GAP: Final = 0.062  # labels at the end of lines keep this distance, in shares of the axis
_CROWDED: Final = 1.5  # the labels of distances closer than this factor are moved apart


@dataclass(frozen=True, kw_only=True)
class Line:
    """One system's shares at its distances, ascending, with the band around them."""

    system: str
    label: str
    distances: Sequence[int]
    shares: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def _looks(systems: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and marker of each system, none twice."""
    further, used, found = cycle(_FURTHER), set[str](), []
    for system in systems:
        found.append(next(further) if system in used or system not in _LOOK else _LOOK[system])
        used.add(system)
    return found


def draw_lines(lines: Sequence[Line], path: str | Path, *, title: str, score: str = SHARE) -> None:
    """Write a PNG; distances stand at equal steps, a system that was asked at one distance only is a level dashed line.

    Args:
        score: what the vertical axis is; anything but a share grows as large as it has to.
    """
    figure = figure_of(figsize=(8.5, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _plot_lines(axes, lines)
    if all(value <= 1.0 for line in lines for value in (*line.shares, *line.high)):
        axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(score, color=_INK)
    _store(figure, axes, path, title=title, columns=min(4 if max(len(line.label) for line in lines) <= 24 else 3, len(lines)))


def _plot_lines(axes: Any, lines: Sequence[Line]) -> None:
    """Lines and bands on given axes."""
    distances = sorted({distance for line in lines for distance in line.distances})
    for line, (colour, marker) in zip(lines, _looks([line.system for line in lines]), strict=True):
        if not line.distances:
            continue
        if len(line.distances) == 1 < len(distances):
            axes.axhline(line.shares[0], color=colour, linestyle="--", linewidth=1.5, label=line.label)
            continue
        places = [distances.index(distance) for distance in line.distances]
        axes.fill_between(places, line.low, line.high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(places, line.shares, color=colour, marker=marker, markersize=5, linewidth=2, label=line.label)
    axes.set_xticks(range(len(distances)), [short(distance) for distance in distances])
    axes.set_xlabel("tokens read since", color=_INK)
    _dress(axes)


def _dress(axes: Any) -> None:
    """The quiet look of all pictures."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _store(figure: Any, axes: Any, path: str | Path, *, columns: int, title: str | None = None) -> None:
    """Put a title above and the legend of some axes below, and write the PNG."""
    if title is not None:
        axes.set_title(title, loc="left", fontsize=11, color=_INK)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    figure.savefig(path, format="png")


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
    for number, (line, (colour, _)) in enumerate(zip(lines, _looks([line.system for line in lines]), strict=True)):
        places = [place + (number - (len(lines) - 1) / 2) * width for place in line.distances]
        errors = [
            [max(share - low, 0.0) for share, low in zip(line.shares, line.low, strict=True)],
            [max(high - share, 0.0) for share, high in zip(line.shares, line.high, strict=True)],
        ]
        axes.bar(places, line.shares, width * 0.92, color=colour, label=line.label)
        axes.errorbar(places, line.shares, errors, fmt="none", ecolor="#7a7a7a", elinewidth=1.0, capsize=1.5)
    tilted = max(map(len, rows), default=0) * len(rows) > 70
    axes.set_xticks(range(len(rows)), rows, rotation=30 if tilted else 0, ha="right" if tilted else "center")
    axes.set_ylabel(score, color=_INK)
    _dress(axes)
    _store(figure, axes, path, title=title, columns=min(4, max(len(lines), 1)))


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
        axes.set_title(NAMES.get(systems[number], systems[number]), fontsize=9, color=_INK)
        axes.tick_params(colors=_INK, length=2)
    figure.supxlabel("tokens read", fontsize=9, color=_INK)
    figure.supylabel("depth of the needle", fontsize=9, color=_INK)
    figure.suptitle(
        f"{summary.model}: {summary.task} (white: not asked, the text does not fit)", fontsize=11, color=_INK, x=0.01, ha="left"
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
        _plot_lines(axes, lines)
        axes.set_yscale("log")
        axes.set_title(MEASURES.get(name, name), loc="left", fontsize=10, color=_INK)
        axes.set_xlabel("tokens read", color=_INK)
        axes.tick_params(axis="x", labelsize=8)
    figure.suptitle(f"{summary.model}: {summary.task}", fontsize=11, color=_INK, x=0.01, ha="left")
    _store(figure, grid.flat[0], path, columns=min(4, max(len(grid.flat[0].get_legend_handles_labels()[1]), 1)))


def _mean(group: Sequence[Sample]) -> float:
    return statistics.fmean(one.score for one in group) if group else float("nan")


def _number(column: str) -> float:
    """The number a depth like "50 %" begins with."""
    digits = column.split()[0].rstrip("%")
    return float(digits) if digits.replace(".", "", 1).isdigit() else 0.0


def draw_retention(result: Retention, path: str | Path) -> None:
    """Write a PNG: share of right answers over the tokens between fact and end, three lines with 95 % intervals.

    A dotted fourth is the window baseline when it may answer at length.
    """
    figure = figure_of(figsize=(9.5, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for system in SYSTEMS:
        colour, marker = _LOOK[system]
        counts = result.right_and_asked(system)
        bands = [wilson_interval(right, asked) for right, asked in counts]
        low, high = [low for low, _ in bands], [high for _, high in bands]
        axes.fill_between(result.distances, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(result.distances, result.accuracy(system), color=colour, marker=marker, markersize=5, linewidth=2)
    if result.has_long_window:
        axes.plot(result.distances, result.accuracy(WINDOW_LONG), color=_LOOK["window"][0], linestyle=":", linewidth=1.6)
    _label_lines(axes, result)
    _dress_retention(axes, result)
    figure.savefig(path, format="png")


def _label_lines(axes: Any, result: Retention) -> None:
    """Names at the right ends of the lines, moved apart where lines meet."""
    dotted = f";\ndotted: answers of {LONG_ANSWER_TOKENS} tokens" if result.has_long_window else ""
    names = {
        "mplus": "M+",
        "memoryllm": f"MemoryLLM\n(reads {short(result.read_budget_tokens)} tokens, as M+)",
        "window": f"plain window\n(last {short(result.window_tokens)} tokens{dotted})",
    }
    below = -0.12
    for system in sorted(SYSTEMS, key=lambda system: result.accuracy(system)[::-1]):
        lines = names[system].count("\n") + 1
        height = max(result.accuracy(system)[-1], below + _LABEL_GAP * lines)
        below = height
        axes.annotate(
            names[system],
            (result.distances[-1], height),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            color=_LOOK[system][0],
            fontsize=9.5,
            fontweight="bold" if system == "mplus" else "normal",
            annotation_clip=False,
        )


def _dress_retention(axes: Any, result: Retention) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(result.distances, [short(distance) for distance in result.distances])
    labels = axes.get_xticklabels()
    for left, right, near, far in zip(labels, labels[1:], result.distances, result.distances[1:], strict=False):
        if far < _CROWDED * near:
            left.set_horizontalalignment("right")
            right.set_horizontalalignment("left")
    axes.set_xlim(result.distances[0] / 1.2, result.distances[-1] * 1.05)
    axes.xaxis.set_minor_formatter(require("matplotlib.ticker", "drawing a picture").NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("tokens read since the fact", color=_INK)
    axes.set_ylabel("recall (share of questions answered right)", color=_INK)
    _dress(axes)
    asked = {count for _, count in result.right_and_asked("mplus")}
    questions = str(asked.pop()) if len(asked) == 1 else f"{min(asked)}-{max(asked)}"
    axes.set_title(
        f"{result.summary.model}: {result.tokens_read:,} tokens read once, then asked ({questions} questions per distance)",
        loc="left",
        fontsize=11,
        color=_INK,
    )
