"""The journal of one memory: changes that its stored state does not hold yet, one line each. Knows no memory and no model.

    <CRC-32 of the rest, 8 hex digits> <JSON>\n

The first line says on which stored state the journal stands (``manifest.content_digest``; "" is an empty memory). Before a save, a line
``{"saved": digest}`` names the state that is about to be stored. So whatever a kill leaves, what is stored tells which lines it holds
already: all before the line that names it. When the save has ended the journal goes.

A line is written at once and is on the disk when ``sync`` returns; callers that wait together share one ``fsync``.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mplus.errors import SnapshotError, StoreError
from mplus.runtime.atomic import flush_names

VERSION = 1
SAVED = "saved"
EMPTY = ""
"""State of a memory that was never stored."""
Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class JournalContent:
    """What a journal holds.

    Attributes:
        stands_on: the stored state of its first line; None: there is no journal.
        records: whole lines behind the first one.
        end: bytes of them; behind are those of a line that a kill cut short.
        damage: what is wrong with the line behind `records` where more lines follow it, else "".
    """

    stands_on: str | None = None
    records: Sequence[Record] = field(default_factory=tuple)
    end: int = 0
    damage: str = ""

    def behind(self, stored: str) -> tuple[list[Record], bool]:
        """The changes that a stored state does not hold, and whether the journal knows that state.

        It does not where somebody else stored the memory meanwhile; then all changes are given, so that none is lost.
        """
        saves = [number for number, record in enumerate(self.records) if SAVED in record]
        known = [number for number in saves if self.records[number][SAVED] == stored]
        is_known = bool(known) or self.stands_on in (None, stored)
        begin = (known[-1] + 1) if known else 0
        return [record for record in self.records[begin:] if SAVED not in record], is_known


def read_journal(path: Path) -> JournalContent:
    """What a journal holds, up to the first line that is not whole.

    Raises:
        SnapshotError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return JournalContent()
    except OSError as error:
        raise SnapshotError(f"the journal {path} cannot be read: {error}; look at the disk") from None
    records, end, damage = list[Record](), 0, ""
    while end < len(content):
        stop = content.find(b"\n", end)
        record = _parsed(content[end:stop]) if stop >= 0 else None
        if record is None:
            if 0 <= stop < len(content) - 1:
                damage = f"line {len(records) + 1} (byte {end:,}) does not agree with its checksum"
            break
        records.append(record)
        end = stop + 1
    if not records:
        return JournalContent(damage=damage)
    head = records[0]
    if head.get("journal") != VERSION or not isinstance(head.get("on"), str):
        return JournalContent(damage=f"its first line is not that of a journal of version {VERSION}")
    return JournalContent(stands_on=head["on"], records=tuple(records[1:]), end=end, damage=damage)


class Journal:
    """The journal of a memory, to be written on.

    Args:
        stands_on: the stored state.
        end: bytes of it that are whole lines; what is behind is cut off.
    """

    def __init__(self, path: Path, stands_on: str, end: int = 0) -> None:
        self.path, self.stands_on = path, stands_on
        self._size = end
        self._synced = end
        self._file: int | None = None
        self._writing, self._syncing = threading.Lock(), threading.Lock()
        self._is_void = False

    @property
    def size_bytes(self) -> int:
        """Bytes written."""
        return self._size

    def append(self, record: Record) -> int:
        """Write a line; returns the place that ``sync`` is to be given.

        Raises:
            StoreError: the disk does not take it; nothing was written.
        """
        with self._writing:
            lines = _line(record)
            try:
                if not self._size:
                    lines = _line({"journal": VERSION, "on": self.stands_on}) + lines
                file = self._opened()
                try:
                    _write_all(file, lines)
                except BaseException:
                    os.ftruncate(file, self._size)
                    raise
            except OSError as error:
                raise StoreError(f"the change was not written to the journal {self.path}: {error}; nothing changed") from None
            self._size += len(lines)
            return self._size

    def sync(self, place: int) -> None:
        """Wait until a line is on the disk, or in a stored state.

        Raises:
            StoreError: the disk does not say so.
        """
        with self._syncing:
            if self._is_void or self._synced >= place:
                return
            with self._writing:
                end, file = self._size, self._file
            try:
                assert file is not None
                _flush(file)
            except OSError as error:
                raise StoreError(f"the journal {self.path} is not on the disk: {error}; look at the disk") from None
            self._synced = end

    def void(self) -> None:
        """Remove it: all its changes are stored."""
        with self._syncing, self._writing:
            self._is_void = True
            self._close()
            self.path.unlink(missing_ok=True)
            if self.path.parent.exists():
                flush_names(self.path.parent)

    def close(self) -> None:
        """Leave it as it is."""
        with self._syncing, self._writing:
            self._close()

    def _opened(self) -> int:
        if self._file is None:
            is_new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
            os.ftruncate(self._file, self._size)
            if is_new:
                flush_names(self.path.parent)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(record: Record) -> bytes:
    content = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _parsed(line: bytes) -> Record | None:
    content = line[9:]
    try:
        if line[8:9] != b" " or int(line[:8], 16) != zlib.crc32(content):
            return None
        record = json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _flush(file: int) -> None:
    getattr(os, "fdatasync", os.fsync)(file)
