"""Metrics of a run: ``log.jsonl``, ``log.txt``, TensorBoard. Knows records, no model.

One line of ``log.jsonl`` per logged step; its numbers are means over the steps since the line before.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from mplus.errors import TrainingError
from mplus.runtime.atomic import replace_files
from mplus.runtime.extras import missing

log = logging.getLogger(__name__)

LINES, TEXT, BOARD = "log.jsonl", "log.txt", "tensorboard"
WIDTH = 80
_INDENT = "    "


@dataclass(frozen=True)
class LogRecord:
    """State and metrics of a run at one step.

    Attributes:
        step: optimiser steps done.
        seconds: trained so far, earlier parts of a resumed run included.
        progress: share of the run, 0 to 1.
        loss: per sample, mean over the steps since the last line.
        lr: learning rate of the first group.
        gradient: norm before clipping, of the last step.
        tokens_per_s: all processes together.
        metrics: the task's own, by name.
    """

    step: int
    seconds: float
    progress: float
    loss: float
    lr: float
    gradient: float
    tokens_per_s: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def left_s(self) -> float | None:
        """Seconds to go at the pace so far; None before the first step."""
        return self.seconds * (1 - self.progress) / self.progress if self.progress else None

    def __str__(self) -> str:
        """Progress of the run on a line, and below it the task's metrics, the learning rate and the gradient; none wider than 80 columns."""
        left = f", {_clock(self.left_s)} left" if self.left_s else ""
        numbers = [
            f"{name} {value:,.0f}" if abs(value) >= 1000 else f"{name} {value:.3f}" for name, value in self.metrics.items()
        ]
        lines = [_INDENT]
        for one in (*numbers, f"lr {self.lr:.2e}", f"gradient {self.gradient:.3f}"):
            if lines[-1] != _INDENT and len(lines[-1]) + len(one) + 3 > WIDTH:
                lines.append(_INDENT)
            lines[-1] += one if lines[-1] == _INDENT else f" | {one}"
        head = f"step {self.step} after {_clock(self.seconds)}{left}: loss {self.loss:.4f}, {self.tokens_per_s:,.0f} tokens/s"
        return "\n".join([head, *lines])


def _clock(seconds: float) -> str:
    """As 45 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Callback:
    """Observer of a run; a command line overrides the events it wants to show."""

    def on_begin(self, text: str) -> None:
        """A new part of the run begins (opening, set-up, training)."""

    def on_step(self, line: LogRecord) -> None:
        """A step is done; metrics are those of the last logged line."""

    def on_log(self, line: LogRecord) -> None:
        """A line went into the log."""


class MetricsLog:
    """Writes lines; made on the main process only.

    Args:
        step: of the checkpoint a run goes on from; later lines, of steps that will be done again, are taken out.
    """

    def __init__(self, directory: Path, step: int) -> None:
        self.directory = directory
        self._keep(step)
        self._lines = self._open(LINES)
        self._text = self._open(TEXT)
        self._board = _board(directory / BOARD, step)

    def write(self, line: LogRecord) -> None:
        """Store a line; on the disk when this returns, as far as the system tells."""
        try:
            self._lines.write(json.dumps(asdict(line)) + "\n")
            self._lines.flush()
            self._text.write(f"{line}\n")
            self._text.flush()
        except OSError as error:
            raise TrainingError(f"the log in {self.directory} cannot be written ({error.strerror}); make room there") from None
        if self._board is not None:
            for name, value in _numbers(line).items():
                self._board.add_scalar(name, value, line.step)
            self._board.flush()

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        self._text.close()
        if self._board is not None:
            self._board.close()

    def _open(self, name: str) -> TextIO:
        return (self.directory / name).open("a", encoding="utf-8")

    def _keep(self, step: int) -> None:
        path = self.directory / LINES
        if path.exists():
            kept = [line for line in read_log(path) if line.step <= step]
            text = "".join(json.dumps(asdict(line)) + "\n" for line in kept)
            replace_files({path: lambda aside: aside.write_text(text, encoding="utf-8")})


def record_of(fields: dict[str, Any]) -> LogRecord:
    """A stored record; older versions called the learning rate `rate`."""
    return LogRecord(**{"lr" if name == "rate" else name: value for name, value in fields.items()})


def read_log(path: Path) -> list[LogRecord]:
    """All lines of a ``log.jsonl``; a last line that was cut off is left out."""
    out = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            out.append(record_of(json.loads(text)))
        except (json.JSONDecodeError, TypeError):
            log.warning("%s: a line cannot be read and is left out", path)
    return out


def _numbers(line: LogRecord) -> dict[str, float]:
    own = {name: value for name, value in asdict(line).items() if name not in ("step", "metrics")}
    return {**own, **{f"metrics/{name}": value for name, value in line.metrics.items()}}


def _board(directory: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("%s; log.jsonl has every number", missing("tensorboard", "writing TensorBoard files"))
        return None
    return SummaryWriter(str(directory), purge_step=step + 1 if step else None)
