"""Where output goes: results to stdout; bars, notes and logs to stderr. Knows nothing of commands or models.

Bars and spinners show on a terminal only. Everything printed as text goes through `shown`, so that no name or answer can steer a
terminal. A stream that is closed, full or cannot encode a character ends no command: `Streams` says at the end what was not printed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
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
from rich.text import Text

from mplus.cli.sheet import Sheet
from mplus.errors import InputError
from mplus.runtime.unicode import well_formed

LOGGER = "mplus"
WHOLE_LINES = 100_000
"""Width of what is no terminal: a pipe or a file gets whole lines."""

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Control characters but line feed and tab, and what turns the direction of writing."""


def shown(text: object) -> str:
    """Text as it may reach a terminal: control characters as `\\x1b`, half characters as U+FFFD."""
    return _STEERING.sub(lambda sign: ascii(sign[0])[1:-1], well_formed(str(text)))


def results() -> Console:
    """The console of stdout."""
    told = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(file=sys.stdout, highlight=False, width=None if told else WHOLE_LINES)


def say(*texts: object) -> None:
    """One line of results, or several."""
    for text in texts:
        sys.stdout.write(shown(text) + "\n")


def say_part(text: str) -> None:
    """A piece of a result that goes on, at once."""
    sys.stdout.write(shown(text))
    sys.stdout.flush()


def say_json(value: Any, *, indent: int | None = 2) -> None:
    """A value as JSON, which stays JSON in every encoding; on one line where `indent` is None."""
    text = well_formed(json.dumps(value, indent=indent, ensure_ascii=False))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    sys.stdout.write(text + "\n")


def table(*headings: str, title: str | None = None, text_columns: tuple[int, ...] = (0,)) -> Sheet:
    """An empty table, see ``Sheet``; all columns but `text_columns` hold numbers."""
    return Sheet(map(shown, headings), title=None if title is None else shown(title), text_columns=text_columns, shown=shown)


def facts(rows: Mapping[str, str]) -> Sheet:
    """Names and what they are, one a line."""
    made = Sheet(("", ""), text_columns=(0, 1), shown=shown, bold_names=True)
    for name, value in rows.items():
        made.add_row(name, value)
    return made


def note(message: str) -> None:
    """One line for the person at the terminal."""
    print(shown(message), file=sys.stderr, flush=True)


def confirmed(question: str) -> bool:
    """Ask a yes-or-no question on stderr; False where the answer is not yes, or nobody is at the terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    print(shown(question), end=" [y/N] ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


LONGEST_LINE_BYTES = 1 << 20


def is_interactive() -> bool:
    """Tell whether a person types at stdin."""
    return sys.stdin is not None and sys.stdin.isatty()


def lines(prompt: str) -> Iterator[str]:
    """Lines of stdin until its end; at a terminal with a prompt and what can be edited.

    Raises:
        InputError: stdin is closed, or a line has no end.
    """
    if sys.stdin is None:
        raise InputError("stdin is closed; type at a terminal, or feed lines through a pipe")
    if not is_interactive():
        while line := sys.stdin.buffer.readline(LONGEST_LINE_BYTES + 1):
            if len(line) > LONGEST_LINE_BYTES:
                raise InputError(f"a line has more than {LONGEST_LINE_BYTES:,} bytes; a message is a line, split it")
            yield line.decode("utf-8", "replace").rstrip("\r\n")
        return
    with contextlib.suppress(ImportError):  # a system without it edits less
        import readline  # noqa: F401
    while True:
        try:
            yield input(prompt)
        except EOFError:
            say_part("\n")
            return


class Stream:
    """A text stream that keeps the first error of writing instead of raising it; then it takes everything and prints nothing.

    Args:
        inner: the stream behind it; None where the process was started without one.
    """

    def __init__(self, inner: TextIO | None) -> None:
        self.inner: TextIO = inner if inner is not None else open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
        self.error: OSError | None = None
        self._absent = inner is None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, text: str) -> int:
        """Print; what the encoding lacks is written as an escape."""
        self._try(lambda: self._write(text))
        return len(text)

    def flush(self) -> None:
        """Print what waits."""
        self._try(self.inner.flush)

    def _write(self, text: str) -> None:
        if self._absent:
            raise OSError("it is closed")
        try:
            self.inner.write(text)
        except UnicodeEncodeError:
            encoding = self.inner.encoding or "ascii"
            self.inner.write(well_formed(text).encode(encoding, "backslashreplace").decode(encoding))

    def _try(self, act: Callable[[], object]) -> None:
        if self.error is not None:
            return
        try:
            act()
        except (OSError, ValueError) as error:  # ValueError: it was closed by somebody
            self.error = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(OSError, ValueError, AttributeError):  # what is buffered must not fail again at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.inner.fileno())


class Interrupted(Exception):
    """Ctrl-C, with a sentence on how far a command got."""


_stored: list[str] = []


def mark_stored(what: object) -> None:
    """Say that a command has stored what it was to store: from now on it succeeds, printed or not."""
    _stored.append(str(what))


def stored() -> list[str]:
    """What this command has stored so far."""
    return list(_stored)


def _occupy_standard_descriptors() -> None:
    """Open what the process was started without as nothing: else the next file opened would get that number, and what is printed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


@contextlib.contextmanager
def streams() -> Iterator[tuple[Stream, Stream]]:
    """stdout and stderr that end no command, for the time of one."""
    before = sys.stdout, sys.stderr
    _stored.clear()
    _occupy_standard_descriptors()
    out, err = Stream(sys.stdout), Stream(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


class _Count(ProgressColumn):
    """How much of how much, and how fast."""

    def render(self, task: Task) -> Text:
        unit = task.fields.get("unit", "tokens")
        speed = task.finished_speed or task.speed
        total = f"{task.total:,.0f}" if task.total is not None else "?"
        return Text(f"{task.completed:,.0f} of {total} {unit}" + (f", {speed:,.0f} {unit}/s" if speed else ""), no_wrap=True)


COLUMNS = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=16), _Count(), TimeRemainingColumn())


@contextlib.contextmanager
def token_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar while tokens are read; yields a function that takes the tokens done so far."""
    with _progress(*COLUMNS) as progress:
        task = progress.add_task(shown(label), total=total)
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
                tasks[stage] = progress.add_task(shown(label), total=total, unit=unit)
                if progress.disable:
                    note(f"{label}: {total:,} {unit}")
            progress.update(tasks[stage], completed=done, total=total)

        yield show


@contextlib.contextmanager
def waiting(label: str) -> Iterator[Callable[[str], None]]:
    """A spinner while something takes its time; yields a function that changes the label (a line each without a terminal)."""
    with _progress(SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()) as progress:
        task = progress.add_task(shown(label), total=None)
        yield note if progress.disable else lambda text: progress.update(task, description=shown(text))


def _progress(*columns: ProgressColumn) -> Progress:
    return Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty())


class _Stderr(logging.Handler):
    """Writes to what `sys.stderr` is at that moment, so a bar that stands there moves down."""

    def emit(self, record: logging.LogRecord) -> None:
        note(self.format(record))


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
