"""Where output goes: results to stdout; bars, notes and logs to stderr. Knows nothing of commands or models.

Bars and spinners show on a terminal only.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
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


def note(message: str) -> None:
    """One line for the person at the terminal."""
    print(message, file=sys.stderr, flush=True)


class _TokensPerSecond(ProgressColumn):
    """Tokens read, of how many, how fast."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        rate = f"{speed:,.0f} tokens/s" if speed else "- tokens/s"
        total = f"{task.total:,.0f}" if task.total is not None else "?"
        return Text(f"{task.completed:,.0f} of {total}  {rate}")


@contextlib.contextmanager
def token_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar while tokens are read; yields a function that takes the tokens done so far."""
    columns = (TextColumn("{task.description}"), BarColumn(), _TokensPerSecond(), TimeRemainingColumn())
    with _progress(*columns) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextlib.contextmanager
def waiting(label: str) -> Iterator[Callable[[str], None]]:
    """A spinner while something takes its time; yields a function that changes the label."""
    with _progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as progress:
        task = progress.add_task(label, total=None)
        yield lambda text: progress.update(task, description=text)


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
