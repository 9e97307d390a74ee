"""The picture of a run's log. Knows matplotlib and lines, nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mplus.runtime.extras import figure_of
from mplus.training.run.metrics_log import LogRecord

SMOOTH_SHARE = 0.05
"""Width of the running mean, in shares of the run."""
Series = dict[str, tuple[list[float], list[float]]]


def draw_curves(lines: Sequence[LogRecord], path: Path, *, title: str) -> None:
    """Write a PNG: loss, metrics between 0 and 1, other metrics, learning rate and gradient norm over the steps."""
    metrics = _metrics(lines)
    shares = {name: points for name, points in metrics.items() if _is_share(name, points[1])}
    others = {name: points for name, points in metrics.items() if name not in shares}
    steps = [float(line.step) for line in lines]
    panels: list[tuple[str, Series, bool]] = [("loss", {"loss": (steps, [line.loss for line in lines])}, False)]
    panels += [("share", shares, False)] if shares else []
    panels += [("metrics", others, False)] if others else []
    panels.append(("learning rate", {"learning rate": (steps, [line.lr for line in lines])}, False))
    panels.append(("gradient norm", {"gradient norm": (steps, [line.gradient for line in lines])}, True))
    figure = figure_of(figsize=(8.5, 2.3 * len(panels)), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for place, (label, series, logarithmic) in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, place + 1)
        _draw(axes, label, series, logarithmic)
        if place == len(panels) - 1:
            axes.set_xlabel("step")
    figure.savefig(path, format="png")


def _draw(axes: Any, label: str, series: Series, logarithmic: bool) -> None:
    for number, (name, (steps, values)) in enumerate(series.items()):
        colour = f"C{number}"
        axes.plot(steps, values, color=colour, alpha=0.3, linewidth=1)
        axes.plot(steps, running_mean(values), color=colour, linewidth=1.8, label=name)
    if logarithmic and any(value > 0 for _, values in series.values() for value in values):
        axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.grid(alpha=0.2)
    if len(series) > 1:
        axes.legend(fontsize=7, loc="best", framealpha=0.7)


def running_mean(values: Sequence[float]) -> list[float]:
    """Mean over the last ``SMOOTH_SHARE`` of all values, at each."""
    width = max(1, round(SMOOTH_SHARE * len(values)))
    return [sum(values[max(0, end - width) : end]) / min(width, end) for end in range(1, len(values) + 1)]


def _metrics(lines: Sequence[LogRecord]) -> Series:
    out: Series = {}
    for line in lines:
        for name, value in line.metrics.items():
            steps, values = out.setdefault(name, ([], []))
            steps.append(float(line.step))
            values.append(value)
    return out


def _is_share(name: str, values: Sequence[float]) -> bool:
    return "loss" not in name and all(0 <= value <= 1 for value in values)
