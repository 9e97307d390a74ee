"""The picture of a retention result. Knows matplotlib and results, nothing of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from mplus.evaluation.report.retention import WINDOW_LONG, Retention
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.evaluation.systems.protocol import LONG_ANSWER_TOKENS
from mplus.runtime.extras import figure_of, require

_LOOK: Final = {"mplus": ("#0b6e4f", "o"), "memoryllm": ("#c8553d", "s"), "window": ("#5b6c8f", "^")}
_LABEL_GAP: Final = 0.062  # labels at the end of lines keep this distance, in shares of the axis
_CROWDED: Final = 1.5  # the labels of distances closer than this factor are moved apart
_INK: Final = "#333333"


def draw_retention(result: Retention, path: str | Path) -> None:
    """Write a PNG: share of right answers over the tokens between fact and end, three lines with 95 % intervals.

    A dotted fourth is the window baseline when it may answer at length.
    """
    figure = figure_of(figsize=(9.5, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for system, (colour, marker) in _LOOK.items():
        counts = result.right_and_asked(system)
        bands = [wilson_interval(right, asked) for right, asked in counts]
        low, high = [low for low, _ in bands], [high for _, high in bands]
        axes.fill_between(result.distances, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(result.distances, result.accuracy(system), color=colour, marker=marker, markersize=5, linewidth=2)
    axes.plot(result.distances, result.accuracy(WINDOW_LONG), color=_LOOK["window"][0], linestyle=":", linewidth=1.6)
    _label_lines(axes, result)
    _dress(axes, result)
    figure.savefig(path, format="png")


def _label_lines(axes: Any, result: Retention) -> None:
    """Names at the right ends of the lines, moved apart where lines meet."""
    names = {
        "mplus": "M+",
        "memoryllm": f"MemoryLLM\n(reads {_short(result.read_budget_tokens)} tokens, as M+)",
        "window": f"plain window\n(last {_short(result.window_tokens)} tokens;\ndotted: answers of {LONG_ANSWER_TOKENS} tokens)",
    }
    below = -0.12
    for system in sorted(_LOOK, key=lambda system: result.accuracy(system)[::-1]):
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


def _dress(axes: Any, result: Retention) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(result.distances, [_short(distance) for distance in result.distances])
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
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    asked = {count for _, count in result.right_and_asked("mplus")}
    questions = str(asked.pop()) if len(asked) == 1 else f"{min(asked)}-{max(asked)}"
    axes.set_title(
        f"{result.summary.model}: {result.tokens_read:,} tokens read once, then asked ({questions} questions per distance)",
        loc="left",
        fontsize=11,
        color=_INK,
    )


def _short(tokens: int) -> str:
    return f"{tokens / 1000:.3g}k" if tokens >= 1000 else str(tokens)
