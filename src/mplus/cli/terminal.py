"""Where output goes: results to stdout; bars, notes and logs to stderr. Knows nothing of commands or models.

Bars and spinners show on a terminal only.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

LOGGER = "mplus"


def results() -> Console:
    """The console of stdout."""
    return Console(file=sys.stdout, highlight=False)


def table(*headings: str, title: str | None = None) -> Table:
    """An empty table: the first column holds names, the others numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        made.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    return made


def facts(rows: Mapping[str, str]) -> Table:
    """Names and what they are, one a line."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in rows.items():
        made.add_row(name, escape(value))
    return made


def note(message: str) -> None:
    """One line for the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


class _Count(ProgressColumn):
    """How much of how much, and how fast."""

    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "tokens")
        speed = task.finished_speed or task.speed
        total = f"{task.total:,.0f}" if task.total is not None else "?"
        return Text(f"{task.completed:,.0f} of {total} {unit}" + (f", {speed:,.0f} {unit}/s" if speed else ""), no_wrap=True)


COLUMNS = (TextColumn("{task.description}"), BarColumn(bar_width=16), _Count(), TimeRemainingColumn())


@contextlib.contextmanager
def token_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar while tokens are read; yields a function that takes the tokens done so far."""
    with _progress(*COLUMNS) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def stage_bar(stages: Mapping[str, tuple[str, str]]) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for a job of several stages, one at a time; without a terminal, one line at the start of each.

    Args:
        stages: label and unit of each stage.

    Yields:
        a function that takes stage, done and total.
    """
    with _progress(*COLUMNS) as progress:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                label, unit = stages.get(stage, (stage, ""))
                for earlier in tasks.values():
                    progress.update(earlier, visible=False)
                tasks[stage] = progress.add_task(label, total=total, unit=unit)
                if progress.disable:
                    note(f"{label}: {total:,} {unit}")
            progress.update(tasks[stage], completed=done, total=total)

        yield show


@contextlib.contextmanager
def waiting(label: str) -> Iterator[Callable[[str], None]]:
    """A spinner while something takes its time; yields a function that changes the label (a line each without a terminal)."""
    with _progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        task = progress.add_task(label, total=None)
        yield note if progress.disable else lambda text: progress.update(task, description=text)


def _progress(*columns: ProgressColumn) -> Progress:
    shown = sys.stderr.isatty()
    return Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not shown)


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so a bar that stands there moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def start_logging() -> None:
    """Show the library's log from INFO up. Calling it twice changes nothing."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
        handler = _Stderr()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def stop_logging() -> None:
    """Undo ``start_logging``."""
    logger = logging.getLogger(LOGGER)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Stderr)]:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def is_verbose() -> bool:
    """Whether the user asked for logs."""
    return any(isinstance(handler, _Stderr) for handler in logging.getLogger(LOGGER).handlers)
