"""A folder kept in a memory: which files are new, changed, removed or unchanged since the last time, and taking that over.

The memory notes of each source that came from the folder which file content it was made of and which text it became. A source that
anything else wrote or changed is not of the folder: it is neither forgotten nor replaced.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from mplus.errors import BinaryFileError, InputError
from mplus.runtime.input_file import absolute_directory
from mplus.text.document_files import DocumentFile, Skipped, files_below, read_documents
from mplus.text.documents import largest_bytes

if TYPE_CHECKING:
    from mplus.memory.memory import Memory
    from mplus.memory.selection import Time

NOTE: Final = "sync"
"""What a memory notes of a source that came from a folder: a ``SyncedSource``."""

HEAD_BYTES: Final = 1 << 16
"""Of a file, which tell whether it holds text."""


class SyncedSource(TypedDict):
    """Where a source came from.

    folder: its absolute path.
    file: SHA-256 of the file's bytes; "" where only a part of it was written.
    text: digest of its token ids in the memory, as ``SourceInfo.digest``.
    """

    folder: str
    file: str
    text: str


@dataclass(frozen=True)
class SyncPlan:
    """What taking over a folder will change.

    Attributes:
        folder: absolute; prefix: of the names of its sources.
        new, changed: files to write.
        removed: sources to forget.
        unchanged: sources that stay as they are.
        skipped: files that are left out, and why.
        empty: files of 0 bytes.
        hashes: SHA-256 of each file by source.
    """

    folder: Path
    prefix: str
    new: list[DocumentFile] = field(default_factory=list)
    changed: list[DocumentFile] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.new or self.changed or self.removed)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "folder": str(self.folder),
            "new": [file.name for file in self.new],
            "changed": [file.name for file in self.changed],
            "removed": self.removed,
            "unchanged": self.unchanged,
            "skipped": [{"name": one.name, "reason": one.reason, "mistake": one.is_mistake} for one in self.skipped],
        }


@dataclass(frozen=True)
class SyncReport:
    """What taking over a folder has changed.

    Attributes:
        written: sources that were written, anew ones included; forgotten: sources that are gone.
        tokens: text tokens written.
        skipped: files that could not be read, whose sources are as they were.
    """

    written: list[str]
    forgotten: list[str]
    tokens: int
    skipped: list[Skipped]


def plan_sync(
    folder: str | Path,
    digests: Mapping[str, str],
    notes: Mapping[str, Mapping[str, Any]],
    *,
    prefix: str | None = None,
    patterns: Sequence[str] = (),
) -> SyncPlan:
    """Compare a folder with what a memory holds of it. Reads files and changes nothing.

    Args:
        digests: of each source of the memory, by name.
        notes: of the memory, by source.
        prefix: of the names of the sources; default: the folder's name.
        patterns: of the files that count; sources of others are left as they are.

    Raises:
        InputError: there is no such folder, or all its files are gone, which is more likely a disk that is not there than meant.
    """
    place = absolute_directory(folder).resolve()
    plan = SyncPlan(place, place.name if prefix is None else prefix)
    files, skipped = files_below(place, plan.prefix, patterns=patterns)
    plan.skipped.extend(skipped)
    own: dict[str, SyncedSource] = {
        name: note[NOTE]
        for name, note in notes.items()
        if NOTE in note and note[NOTE]["folder"] == str(place) and note[NOTE]["text"] == digests.get(name)
    }
    for file in files:
        _place(plan, file, own.get(file.name), is_taken=file.name in digests)
    there = ({file.name for file in files} | {one.name for one in skipped}) - set(plan.empty)
    start = len(plan.prefix) + 1 if plan.prefix else 0
    plan.removed.extend(name for name in own if name not in there and _counts(name[start:], patterns))
    if plan.removed and not files and not patterns:
        raise InputError(
            f"the folder '{place}' holds no file any more, and the memory {len(plan.removed)} sources of it; check that the disk is there, "
            f"or forget them by name ('{plan.prefix}/*')"
        )
    return plan


def _place(plan: SyncPlan, file: DocumentFile, own: SyncedSource | None, *, is_taken: bool) -> None:
    """Put a file where it belongs in a plan."""
    try:
        with file.path.open("rb") as opened:
            head = opened.read(HEAD_BYTES)
            opened.seek(0)
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        if head:
            largest_bytes(head, file.name)
    except BinaryFileError as error:
        plan.skipped.append(Skipped(file.name, str(error), is_mistake=False))
        return
    except OSError as error:
        plan.skipped.append(Skipped(file.name, f"'{file.name}' cannot be read ({error.strerror or error})", is_mistake=True))
        return
    if not head:  # as if it were not there: the source of an emptied file is forgotten
        plan.empty.append(file.name)
        return
    plan.hashes[file.name] = content
    if own is None and is_taken:
        reason = (
            f"the memory has a source '{file.name}' that is not of this folder; forget it, or choose another name for the folder"
        )
        plan.skipped.append(Skipped(file.name, reason, is_mistake=True))
    elif own is None:
        plan.new.append(file)
    elif own["file"] == content:
        plan.unchanged.append(file.name)
    else:
        plan.changed.append(file)


def _counts(relative: str, patterns: Sequence[str]) -> bool:
    name = relative.rpartition("/")[2]
    return not patterns or any(fnmatchcase(relative, one) or fnmatchcase(name, one) for one in patterns)


def apply_sync(
    memory: Memory,
    plan: SyncPlan,
    *,
    at: Time | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SyncReport:
    """Take over a folder as planned: forget what was removed, write what is new or changed.

    All files are read first; where one cannot be, its source stays as it is. After an error or Ctrl-C the memory is whole and notes how
    far it got: the next plan goes on.

    Args:
        at: see ``Memory.write``.
        progress: called with the text tokens done so far and those of all.
    """
    from mplus.memory.source_texts import Action, Held, TakenNames, plan_texts, write_texts

    texts, skipped = [], []
    for one in read_documents([*plan.changed, *plan.new]):
        skipped.append(one) if isinstance(one, Skipped) else texts.append((one.name, one.text))
    planned = plan_texts(memory, texts, TakenNames(replace=True, resume=True))
    todo = [one for one in planned if one.action is not Action.skip]
    total = sum(one.tokens for one in todo)
    gone = [*plan.removed, *(one.name for one in todo if one.held is Held.other)]
    try:
        if gone:
            memory.forget(gone)
        fresh = plan_texts(memory, [(one.name, one.text) for one in todo], TakenNames(resume=True))
        tokens = write_texts(memory, fresh, at=at, progress=None if progress is None else lambda done: progress(done, total))
    finally:
        _note(memory, plan, {one.name: one.digest for one in planned})
    return SyncReport([one.name for one in todo], plan.removed, tokens, skipped)


def _note(memory: Memory, plan: SyncPlan, wanted: Mapping[str, str]) -> None:
    """Note what the memory holds of the folder now.

    Args:
        wanted: digest of the whole text of each source that was to be written.
    """
    for info in memory.sources():
        if info.name in wanted:
            whole = info.digest == wanted[info.name]
            synced = SyncedSource(folder=str(plan.folder), file=plan.hashes[info.name] if whole else "", text=info.digest)
            memory.note(info.name, {NOTE: synced})
