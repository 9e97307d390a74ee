"""The picture of a run: first token and bytes against what stands behind the query, and the ratios. Knows matplotlib and results."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.ratios import TARGETS
from benchmarks.result import Result
from benchmarks.systems import OURS_ROW_TYPE
from mplus.runtime.extras import figure_of, require

_LOOK: Final = {
    "ours": ("M+, ours", "#0b6e4f", "o"),
    "literal": ("M+, as published", "#c8553d", "s"),
    "full": ("full context", "#5b6c8f", "^"),
    "cached": ("full context,\ntext cached", "#9a7aa0", "v"),
}
_INK: Final = "#333333"
_LEAST: Final = 100  # where no long-term token stands on the logarithmic axis


def draw(result: Result, path: Path) -> None:
    """Write a PNG with the panels that the run has numbers for."""
    times, sizes = _times(result.raw), _bytes(result)
    panels = [panel for panel, there in ((_draw_times, times), (_draw_bytes, sizes), (_draw_ratios, result.spreads)) if there]
    figure = figure_of(figsize=(5.6 * max(1, len(panels)), 4.6), dpi=150, layout="constrained")
    for number, panel in enumerate(panels):
        panel(figure.add_subplot(1, len(panels), number + 1), result)
    figure.suptitle(f"{result.model}, {result.environment['hardware']['dtype']}", x=0.01, ha="left", fontsize=11, color=_INK)
    figure.savefig(path, format="png")


def _times(raw: dict[str, Any]) -> dict[str, list[tuple[int, float]]]:
    """System to (tokens, median seconds)."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for part, tokens in (("first_token", "ltm_tokens"), ("contexts", "text_tokens")):
        for point in raw.get(part, {}).get("points", []):
            for name, seconds in point["seconds"].items():
                lines.setdefault(name, []).append((max(_LEAST, point[tokens]), median(seconds)))
    return lines


def _bytes(result: Result) -> dict[str, list[tuple[int, float]]]:
    """System to (tokens, bytes of what is kept)."""
    rows = result.raw.get("bytes", {}).get("per_token_and_layer")
    points = result.raw.get("first_token", {}).get("points", [])
    if not rows or not points:
        return {}
    layers = result.environment["shape"]["layers"]
    lines = {
        name: [
            (point["ltm_tokens"], point["ltm_tokens"] * rows[kind]["total"] * layers) for point in points if point["ltm_tokens"]
        ]
        for name, kind in (("ours", OURS_ROW_TYPE), ("literal", "literal"))
    }
    contexts = result.raw.get("contexts", {}).get("points", [])
    lines["cached"] = [(point["text_tokens"], point["cache_bytes"]) for point in contexts]
    return {name: line for name, line in lines.items() if line}


def _draw_times(axes: Any, result: Result) -> None:
    _lines(axes, _times(result.raw))
    axes.set_ylabel("seconds to the first token", color=_INK)


def _draw_bytes(axes: Any, result: Result) -> None:
    _lines(axes, _bytes(result))
    axes.set_ylabel("bytes kept", color=_INK)


def _lines(axes: Any, lines: dict[str, list[tuple[int, float]]]) -> None:
    for name, points in lines.items():
        label, colour, marker = _LOOK[name]
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5, linewidth=2, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("tokens behind the query\n(memory tokens; full context: text tokens)", color=_INK)
    axes.legend(frameon=False, fontsize=8.5)
    _dress(axes)


def _draw_ratios(axes: Any, result: Result) -> None:
    """Bars of how far each ratio is from its target: 1 is reached, further right is better."""
    shown = [(name, one) for name, one in result.spreads.items() if name in TARGETS][::-1]
    for row, (name, one) in enumerate(shown):
        bound, target = TARGETS[name]
        better = one.median / target if bound == "at least" else target / one.median
        axes.barh(row, better, color="#0b6e4f" if better >= 1 else "#c8553d", height=0.6)
        axes.annotate(f" {one.median:.3g}, wanted {bound} {target:g}", (better, row), va="center", fontsize=8, color=_INK)
    axes.axvline(1, color=_INK, linewidth=1)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=8)
    axes.margins(x=0.6)
    axes.set_xlabel("share of the target reached", color=_INK)
    _dress(axes)


def _dress(axes: Any) -> None:
    axes.xaxis.set_minor_formatter(require("matplotlib.ticker", "drawing a picture").NullFormatter())
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, length=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
