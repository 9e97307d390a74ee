"""One memory that is open: its value, its journal, and how it gets to the disk. Knows no other memory and no event loop.

A change is made on a fork, written to the journal, then the fork takes the place of the memory: readers go on with the value they have.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mplus.errors import CapacityError, MPlusError, ReentryError, SnapshotError, StoreError
from mplus.memory import snapshot
from mplus.memory.compact import compact
from mplus.memory.manifest import ENCRYPTED, content_digest, read_manifest
from mplus.memory.memory import Memory
from mplus.memory.parts import parts_of
from mplus.model import MPlusModel
from mplus.runtime.atomic import flush_names
from mplus.runtime.folder import file_bytes
from mplus.server.memories.journal import EMPTY, SAVED, Journal, JournalContent, Record, read_journal
from mplus.server.memories.place import MemoryRecord, Place
from mplus.server.texts import SourceText

log = logging.getLogger(__name__)
Write = Callable[[Memory, Sequence[SourceText]], None]
"""Reads texts into a memory where the model computes, and waits for it."""


class Opened:
    """See the module.

    Attributes:
        ram_bytes: of its rows and buffers; tokens, sources: text tokens, and how many sources there are.
        dirty_since: when the first change came that is in the journal only; None: there is none.
        damage: why it takes no more changes, else "".
    """

    def __init__(self, place: Place, memory: Memory, journal: Journal) -> None:
        self.place, self.journal = place, journal
        self.memory = memory
        self.dirty_since: float | None = None
        self.damage = ""
        self.keys: list[Record] = []
        """Records with a key that were found in the journal: the index may not have them yet."""

    @property
    def memory(self) -> Memory:
        """Its value."""
        return self._memory

    @memory.setter
    def memory(self, memory: Memory) -> None:
        """Take another value, which nobody reads yet; its counts are taken once, so that a request for them waits for no read."""
        self.ram_bytes = memory.stats().size_bytes
        self.tokens, self.sources = tokens_of(memory), sources_of(memory)
        self._memory = memory

    def refuse_damaged(self) -> None:
        """Do nothing if it may be changed.

        Raises:
            SnapshotError: its journal is damaged.
        """
        if self.damage:
            raise SnapshotError(self.damage)

    # -- changes ---------------------------------------------------------------------------------------------------

    def commit(self, memory: Memory, change: Record) -> int:
        """Write a change to the journal and be what it made; gives the place for ``journal.sync``.

        Raises:
            StoreError: the disk does not take it; nothing changed.
        """
        place = self.journal.append({**change, "tokens": tokens_of(memory), "sources": sources_of(memory)})
        self.memory = memory
        self.dirty_since = self.dirty_since or time.monotonic()
        return place

    # -- to the disk -----------------------------------------------------------------------------------------------

    def save(self, record: MemoryRecord) -> MemoryRecord:
        """Store the memory, after which the journal goes; gives its record as it is kept then.

        Raises:
            SnapshotError: it cannot be stored; the journal still has every change.
        """
        twin = self.memory.fork()
        self._store(twin)
        self.memory = twin
        return self._finish(record)

    def save_without_traces(self, memory: Memory, record: MemoryRecord, model: MPlusModel) -> MemoryRecord:
        """Store another value in place of this one, so that nothing is left of what it does not have: no row, no text in the journal.

        Raises:
            SnapshotError: it cannot be stored, or not all of it is gone yet; the memory has to be opened again.
        """
        self._store(memory, always_tell=True)
        compact(self.place.directory)
        self.memory = Memory.load(self.place.directory, model)
        return self._finish(record)

    def _store(self, memory: Memory, *, always_tell: bool = False) -> None:
        if always_tell or self.journal.size_bytes:
            digest = content_digest(snapshot.manifest_of(memory))
            self.journal.sync(self.journal.append({SAVED: digest}))
        memory.save(self.place.directory)

    def _finish(self, record: MemoryRecord) -> MemoryRecord:
        try:
            flush_names(self.place.directory)
            self.journal.void()
        except OSError as error:
            raise StoreError(f"the journal {self.place.journal} could not be removed: {error}; look at the disk") from None
        manifest = read_manifest(self.place.directory)
        self.journal = Journal(self.place.journal, content_digest(manifest))
        self.dirty_since = None
        size_bytes = sum(part.size_bytes for part in parts_of(manifest, self.place.directory))
        stored = counted(record, self.memory, size_bytes)
        self.place.write(stored)
        return stored

    def is_ours(self) -> bool:
        """Whether what is stored is what this memory was opened from or saved as."""
        return not self.place.is_stored or snapshot.is_known(self.memory, self.place.directory)


def tokens_of(memory: Memory) -> int:
    """Text tokens of a memory, those that wait included."""
    return memory.tokens_read + memory.pending_tokens


def sources_of(memory: Memory) -> int:
    """How many sources a memory has."""
    return len({*memory.ledger.sources, *(name for name, _ in memory.pending)})


def counted(record: MemoryRecord, memory: Memory, size_bytes: int) -> MemoryRecord:
    """A record with the counts of a memory that was stored now."""
    return replace(record, tokens=tokens_of(memory), sources=sources_of(memory), bytes=size_bytes, last_used_at=time.time())


def open_memory(place: Place, model: MPlusModel, write: Write) -> Opened:
    """Open what is stored and do again what the journal has beside it.

    Raises:
        SnapshotError: what is stored is damaged, encrypted or of another model.
        CapacityError: there is no room for it now.
    """
    content = read_journal(place.journal)
    if place.is_stored:
        manifest = refuse_encrypted(place.directory)
        memory, digest = Memory.load(place.directory, model), content_digest(manifest)
    else:
        memory, digest = model.new_memory(), EMPTY
    todo, is_known = content.behind(digest)
    _tell(place, content, len(todo), is_known)
    opened = Opened(place, memory, Journal(place.journal, digest, content.end))
    if content.stands_on is not None and not todo and not content.damage:  # a save was killed before it had removed its journal
        if place.is_stored:
            compact(place.directory)
            opened.memory = Memory.load(place.directory, model)
        opened.journal.void()
        opened.journal = Journal(place.journal, digest)
        return opened
    wrong = do_again(memory, todo, write)
    opened.memory = memory  # counted again
    opened.keys = [record for record in todo if record.get("key")]
    opened.dirty_since = time.monotonic() if todo else None
    if wrong or content.damage:
        opened.damage = (
            f"the journal {place.journal} is damaged: {wrong or content.damage}; the memory is read up to there and takes no more writes; "
            "restore the file from a backup, or move it away to go on without what follows"
        )
        log.error("%s", opened.damage)
    return opened


def refuse_encrypted(directory: Path) -> dict[str, Any]:
    """The manifest of a memory that a server can keep.

    Raises:
        SnapshotError: it is damaged, or encrypted.
    """
    manifest = read_manifest(directory)
    if manifest["format"] == ENCRYPTED:
        raise SnapshotError(f"memory {directory} is encrypted, and a server keeps its journals as they are; decrypt it first")
    return manifest


def _tell(place: Place, content: JournalContent, changes: int, is_known: bool) -> None:
    if not is_known:
        log.warning(
            "the memory in %s was stored by somebody else since the server did; the %d changes of its journal are done again on top",
            place.directory,
            changes,
        )
    if content.stands_on is not None and not content.damage and file_bytes(place.journal) > content.end:
        log.warning("the last line of %s was cut short by the end of the server; it had not been acknowledged", place.journal)
    if changes:
        log.info("doing %d changes of %s again", changes, place.journal)


def do_again(memory: Memory, records: Sequence[Record], write: Write) -> str:
    """Do changes of a journal again, up to the first that cannot be done; "" or what is wrong with it.

    Raises:
        CapacityError, ReentryError: it cannot be done now.
    """
    for number, record in enumerate(records, 1):
        try:
            entries = [(SourceText(source=name, text=text or "", at=at), note) for name, text, at, note in record["texts"]]
            if texts := [one for one, _ in entries if one.text]:
                write(memory, texts)
            for one, note in entries:
                if note is not None:
                    memory.note(one.source, note)
        except (CapacityError, ReentryError):
            raise
        except (MPlusError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            return f"change {number} of {len(records)} cannot be done again ({type(error).__name__}: {error!s:.200})"
    return ""


def entry_of(source: str, text: str | None, at: float | None, note: Any) -> list[Any]:
    """A text or a note as a line of the journal has it."""
    return [source, text, at, note]
