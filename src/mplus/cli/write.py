"""`mplus write`: files into a stored memory. Every file is read and checked before the memory changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, Device, DType, HomeDirectory, MemoryPlace, ModelName, NumberType, Verbose
from mplus.errors import EmptyTextError, InputError, SnapshotError
from mplus.memory.file_names import MANIFEST, is_ours
from mplus.memory.manifest import read_manifest
from mplus.memory.stores.lock import exclusive_change
from mplus.runtime.input_file import expanded, read_bounded
from mplus.runtime.unicode import well_formed

if TYPE_CHECKING:
    from mplus.memory.memory import Memory
    from mplus.model import MPlusModel

STDIN = "-"
PATIENCE_S = 3600.0
"""Another command that writes into the same memory may read for minutes."""


def write(
    memory: MemoryPlace,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="UTF-8 text files; '-' is stdin.", show_default=False)],
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Read text files into a memory; MEMORY is made if absent. Nothing is stored unless all of it was read."""
    texts = _read_all(files)
    _check_place(memory)
    opened = open_model(model, dtype=dtype, device=device)
    with exclusive_change(
        memory, timeout_s=PATIENCE_S, tell=terminal.note
    ):  # whoever writes here meanwhile is waited for, not overwritten
        held = _open_memory(memory, opened)
        tokens_read = _write_all(held, opened, texts)
        held.save(memory)
        terminal.mark_stored(memory)
        _report(held, memory, tokens_read)


def _read_all(files: list[str]) -> list[tuple[str, str]]:
    """(source name, text) of every file, in order."""
    from mplus.text.files import read_text

    if files.count(STDIN) > 1:
        raise InputError(f"'{STDIN}' (stdin) is named {files.count(STDIN)} times, but it can be read only once")
    return [("stdin", _read_stdin()) if file == STDIN else (well_formed(file), read_text(expanded(file))) for file in files]


def _read_stdin() -> str:
    if sys.stdin is None:
        raise InputError(f"stdin ('{STDIN}') is closed; name a file, or feed a text through a pipe")
    from mplus.text.files import decoded

    try:
        data = read_bounded(sys.stdin.buffer, name="stdin")
    except (OSError, ValueError) as error:
        raise InputError(f"stdin cannot be read ({getattr(error, 'strerror', None) or error}); name a file") from None
    text = decoded(data, "stdin")
    if not text.strip():
        raise EmptyTextError(f"stdin holds no text ({len(data)} bytes); expected some text to read")
    return text


def _check_place(directory: Path) -> None:
    """Refuse a place where no memory can be stored before minutes of reading are spent on it."""
    if directory.exists() and not directory.is_dir():
        raise SnapshotError(f"{directory} is a file, a memory needs a directory of its own; choose another path")
    if _holds_something(directory):
        read_manifest(directory)
    nearest = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise SnapshotError(f"a memory cannot be stored in {directory}: {nearest} may not be written; choose another path")


def _holds_something(directory: Path) -> bool:
    """Whether there is anything but what a command leaves that writes there just now, or was killed."""
    return directory.is_dir() and any(path.name == MANIFEST or not is_ours(path.name) for path in directory.iterdir())


def _open_memory(directory: Path, model: MPlusModel) -> Memory:
    from mplus.memory.memory import Memory

    if _holds_something(directory):
        return Memory.load(directory, model)
    return model.new_memory(seed=0)


def _write_all(memory: Memory, model: MPlusModel, texts: list[tuple[str, str]]) -> int:
    """Write the texts one after the other; returns how many tokens they had."""
    total = sum(len(model.tokenize(text)) for _, text in texts)
    done = 0
    with terminal.token_bar("reading", total) as show:
        for source, text in texts:
            done += memory.write(text, source=source, progress=_counted_from(done, show))
    return done


def _counted_from(start: int, show: Callable[[int], None]) -> Callable[[int], None]:
    return lambda tokens: show(start + tokens)


def _report(memory: Memory, directory: Path, tokens_read: int) -> None:
    stats = memory.stats()
    rows = {
        "memory": str(directory),
        "read now": f"{tokens_read:,} tokens",
        "read in all": f"{stats.tokens_read + stats.pending_tokens:,} tokens",
        "short-term": f"{stats.stm_tokens:,} tokens",
        "long-term": f"{stats.ltm_tokens:,} tokens",
        "size": f"{_stored_bytes(directory) / 1e6:,.1f} MB",
    }
    if stats.pending_tokens:
        rows["waiting"] = f"{stats.pending_tokens:,} tokens, for more text"
    terminal.results().print(terminal.facts(rows))


def _stored_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
