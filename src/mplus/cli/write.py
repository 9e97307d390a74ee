"""`mplus write`: documents into a stored memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.changing import PATIENCE_S
from mplus.cli.documents import STDIN, note_skipped, plain_skipped, read_named
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    AsJson,
    Device,
    DType,
    HomeDirectory,
    MemoryPlace,
    ModelName,
    NumberType,
    Verbose,
    a_time,
)
from mplus.errors import MPlusError, SnapshotError
from mplus.memory.file_names import MANIFEST, is_ours
from mplus.memory.home import Home
from mplus.memory.manifest import read_manifest
from mplus.memory.stores.lock import exclusive_change
from mplus.runtime.folder import folder_bytes, names_in
from mplus.runtime.unicode import well_formed
from mplus.text.document_files import Document, Skipped

if TYPE_CHECKING:
    from mplus.memory.memory import Memory
    from mplus.memory.source_texts import SourceText, TakenNames
    from mplus.model import MPlusModel

SAVE_EVERY_S = 300.0
"""A write of hours is stored on the way, so that a kill or a lost power line costs minutes."""
INCOMPLETE = 2
"""Exit code where some of what was named is stored and some is not."""
WAYS_OUT = {
    "all": "; --again writes it once more",
    "beginning": "; --resume goes on there, --replace writes it anew",
    "other": "; --replace puts this one in its place, --again writes it behind that one",
}


def write(
    memory: MemoryPlace,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files, folders or patterns: text, Markdown, code, HTML, PDF, Word; '-' is stdin.",
            show_default=False,
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option("--source", metavar="NAME", help="Name of the one text that is written.", show_default="its path"),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            "--at", metavar="TIME", parser=a_time, help="When it was said: 2026-11-28, 2026-11-28T18:30.", show_default="now"
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Forget another text of the same name, and write this one.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with texts that an interrupt cut off.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Write also what is there, once more behind it.")] = False,
    special_tokens: Annotated[
        bool,
        typer.Option("--special-tokens", help="Take special tokens that a text spells out as such, not as characters."),
    ] = False,
    share: Annotated[
        bool,
        typer.Option("--share", help="Take texts that other memories of the home hold from there instead of reading them again."),
    ] = False,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Read documents into a memory; MEMORY is made if absent. Each file is a source of its own, under its path.

    A folder gives all its files but hidden ones and those without text. What cannot be read is said, the rest is stored, and the exit
    code is 2. A text that is there already is not written again. Ctrl-C keeps what was read.
    """
    check_flags(again=again, replace=replace, resume=resume)
    documents, skipped = read_named(files, None if source is None else well_formed(source))
    check_place(memory)
    opened = open_model(model, dtype=dtype, device=device)
    from mplus.memory.source_texts import TakenNames

    taken = TakenNames(again=again, replace=replace, resume=resume)
    with exclusive_change(memory, timeout_s=PATIENCE_S, tell=terminal.note):  # another writer is waited for, not overwritten
        held = open_memory(memory, opened)
        others = others_of(Home(home), memory, opened) if share else []
        run = Run(memory, Home(home).label(memory), held, skipped)
        run.write(named_stdin(held, documents) if source is None and STDIN in files else documents, taken, at, special_tokens)
    del others  # kept open until here: their rows are found as long as somebody holds them
    run.report(as_json)


def others_of(home: Home, directory: Path, model: MPlusModel) -> list[Memory]:
    """The other memories of a home that this model wrote, opened."""
    from mplus.memory.memory import Memory

    opened = []
    for name in home.names():
        with suppress(MPlusError):  # of another model, or damaged: its rows are no help, and no hindrance
            if home.path(name).resolve() != directory.resolve():
                opened.append(Memory.load(home.path(name), model))
    return opened


def check_flags(*, again: bool, replace: bool, resume: bool) -> None:
    """Refuse flags that contradict each other before anything is opened."""
    if again and (replace or resume):
        other = "--replace" if replace else "--resume"
        raise typer.BadParameter(f"--again writes behind what is there, {other} does not; give one of them")


def named_stdin(memory: Memory, documents: list[Document]) -> list[Document]:
    """Documents with a name for stdin that is free: each text that is piped in is a source of its own."""
    digests = {info.name: info.digest for info in memory.sources()}

    def free_name(text: str) -> str:
        own = memory.digest(text)
        names = ("stdin" if number == 1 else f"stdin {number}" for number in count(1))
        return next(name for name in names if digests.get(name, own) == own)

    return [Document(free_name(one.text), one.text) if one.name == "stdin" else one for one in documents]


@dataclass
class Run:
    """One command that writes texts into an opened memory: progress, an interrupt, what was done.

    Args:
        directory: where the memory is stored; label: how a person calls it.
        skipped: what was named and not read.
    """

    directory: Path
    label: str
    memory: Memory
    skipped: list[Skipped]
    planned: list[SourceText] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._before = self.memory.state
        self._stored_at = time.monotonic()

    def write(self, documents: list[Document], taken: TakenNames, at: datetime | None, special_tokens: bool) -> None:
        """Write texts and store the memory; after Ctrl-C or an error what is whole is stored.

        Raises:
            terminal.Interrupted: with how far it got.
        """
        from mplus.memory.source_texts import Action, plan_texts, write_texts

        with terminal.waiting("comparing"):
            texts = [(one.name, one.text) for one in documents]
            self.planned = plan_texts(self.memory, texts, taken, special_tokens=special_tokens)
        todo = [one for one in self.planned if one.action is not Action.skip]
        if not todo:
            return
        total = sum(one.tokens for one in todo)
        with self._stored_whatever_happens(total, len(todo)), terminal.token_bar("reading", total) as show:

            def progress(tokens: int) -> None:
                self.tokens = tokens
                show(tokens)
                if time.monotonic() - self._stored_at > SAVE_EVERY_S:
                    self._store_part()

            write_texts(self.memory, todo, at=at, special_tokens=special_tokens, progress=progress)

    @contextmanager
    def _stored_whatever_happens(self, total: int, texts: int) -> Iterator[None]:
        """Store the memory at the end, or as far as it got."""
        began = time.perf_counter()
        try:
            yield
        except KeyboardInterrupt:
            if self._is_unchanged:
                raise terminal.Interrupted("interrupted before anything was read; nothing was stored") from None
            self._store_part()
            raise terminal.Interrupted(
                f"interrupted after {self.tokens:,} of {total:,} tokens of {texts} texts; what was read is stored, "
                "the same command with --resume goes on"
            ) from None
        except (MPlusError, OSError, MemoryError):
            if not self._is_unchanged:
                self._store_part()
            raise
        self.seconds = time.perf_counter() - began
        self.memory.save(self.directory)
        terminal.mark_stored(self.directory)

    @property
    def _is_unchanged(self) -> bool:
        """Tell whether no chunk was taken in; room may have been made for one."""
        return self.memory.ledger is self._before.ledger and self.memory.pending == self._before.pending

    def _store_part(self) -> None:
        """Store the memory as far as it got."""
        self.memory.save(self.directory)
        self._stored_at = time.monotonic()

    def report(self, as_json: bool) -> None:
        """Say what was done; the exit code says whether that is all of it.

        Raises:
            typer.Exit: something that was named is not stored.
        """
        for one in self.planned:
            if one.same_as:
                terminal.note(f"'{one.name}' has the same text as '{one.same_as}', which is in the memory too")
            if one.reason:
                terminal.note(one.reason + WAYS_OUT[one.held.value])
        note_skipped(self.skipped)
        if as_json:
            terminal.say_json(self.to_json())
        else:
            self._show()
        if any(one.is_mistake for one in self.planned) or any(one.is_mistake for one in self.skipped):
            raise typer.Exit(INCOMPLETE)

    def to_json(self) -> dict[str, Any]:
        """Give what was done as plain values."""
        stats = self.memory.stats()
        sources = [
            {
                "source": one.name,
                "action": one.action.value,
                "tokens": one.tokens,
                "reason": one.reason,
                "mistake": one.is_mistake,
            }
            for one in self.planned
        ]
        return {
            "memory": self.label,
            "path": str(self.directory),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "sources": sources,
            "skipped": plain_skipped(self.skipped),
            "tokens_read": stats.tokens_read + stats.pending_tokens,
            "short_term": stats.stm_tokens,
            "long_term": stats.ltm_tokens,
            "pending_tokens": stats.pending_tokens,
            "size_bytes": folder_bytes(self.directory),
        }

    def _show(self) -> None:
        facts = self.to_json()
        speed = f" ({self.tokens / self.seconds:,.0f} tokens/s)" if self.seconds else ""
        rows = {
            "memory": facts["memory"],
            "read now": f"{self.tokens:,} tokens{speed}",
            "read in all": f"{facts['tokens_read']:,} tokens",
            "short-term": f"{facts['short_term']:,} tokens",
            "long-term": f"{facts['long_term']:,} tokens",
            "size": f"{facts['size_bytes'] / 1e6:,.1f} MB",
        }
        if facts["pending_tokens"]:
            rows["waiting"] = f"{facts['pending_tokens']:,} tokens, for more text"
        terminal.results().print(terminal.facts(rows))


def check_place(directory: Path) -> None:
    """Refuse a place where no memory can be stored before minutes of reading are spent on it."""
    if directory.exists() and not directory.is_dir():
        raise SnapshotError(f"{directory} is a file, a memory needs a directory of its own; choose another path")
    if holds_something(directory):
        read_manifest(directory)
    nearest = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise SnapshotError(f"a memory cannot be stored in {directory}: {nearest} may not be written; choose another path")


def holds_something(directory: Path) -> bool:
    """Tell whether there is anything but what a command leaves that writes there just now, or was killed."""
    return directory.is_dir() and any(name == MANIFEST or not is_ours(name) for name in names_in(directory))


def open_memory(directory: Path, model: MPlusModel) -> Memory:
    """The memory that is stored in a directory, or a new one."""
    from mplus.memory.memory import Memory

    if holds_something(directory):
        return Memory.load(directory, model)
    return model.new_memory(seed=0)


def newest(memory: Memory, directory: Path, model: MPlusModel) -> Memory:
    """The memory itself, or what somebody else stored in its place since."""
    from mplus.memory.memory import Memory
    from mplus.memory.snapshot import is_known

    return memory if not holds_something(directory) or is_known(memory, directory) else Memory.load(directory, model)
