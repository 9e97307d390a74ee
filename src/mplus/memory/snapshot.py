"""Memories on disk: one manifest (JSON), one data file (safetensors) and, of rows that outgrew RAM, immutable segments in a
directory. Knows nothing of models.

The data file has a name of its own for every save; the manifest is replaced last, in one rename. So a reader sees the
old state or the new one, never a mixture.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mplus.errors import GeometryError, InputError, SnapshotError, WrongModelError
from mplus.memory import segment_manifest
from mplus.memory.file_names import ASIDE, MANIFEST, SAVING, STATE, is_ours, is_segment
from mplus.memory.identity import check_model, identity_of
from mplus.memory.manifest import (
    LARGEST_BYTES,
    PLAIN,
    WITH_SEGMENTS,
    as_file,
    check_numbers,
    check_rows_of,
    read_manifest,
)
from mplus.memory.restoring import restore
from mplus.memory.stores.disk import DiskStorage, storage_at
from mplus.memory.stores.lock import exclusive_change, identity
from mplus.memory.stores.protocol import Storage
from mplus.memory.stores.segment_directory import SegmentDirectory
from mplus.memory.stores.segments import unmapped_in
from mplus.runtime.atomic import flush, flush_names, honour_umask, sha256, temporary_directory
from mplus.runtime.input_file import absolute_directory
from mplus.runtime.json_file import UnreadableJsonError, read_json_object
from mplus.settings import Geometry

if TYPE_CHECKING:
    from mplus.memory.memory import Encoder, Memory

log = logging.getLogger(__name__)
STATES_KNOWN = 1000
READ_AGAIN = 8
"""Times a reader follows a memory that is being replaced."""
DAMAGE = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    GeometryError,
    InputError,
)
"""What a manifest or data of a senseless form makes of the code that reads it."""


def save(memory: Memory, directory: str | Path, *, overwrite: bool = False) -> None:
    """Store `memory` in `directory` (made if absent); nobody else changes it meanwhile.

    Args:
        overwrite: replace also what somebody else stored since this memory was opened from or saved to the directory.

    Raises:
        SnapshotError: the directory holds something else or a newer state, or cannot be written; what was there is unchanged.
        StoreError: another memory or process goes on using the directory.
    """
    directory = absolute_directory(directory)
    stored = False
    try:
        _check_place(directory)
        segment_directory, seen = _own_home(memory, directory), _named_data(directory)
        with exclusive_change(directory, in_own_store=segment_directory is not None):
            _check_place(directory)
            _save(memory, directory, segment_directory, seen, overwrite)
            stored = True
    except (OSError, SafetensorError) as error:
        if stored:
            log.warning("the memory is stored in %s, but its lock was not given back (%s)", directory, error)
            return
        raise SnapshotError(f"memory not stored in {directory}: {error}; the previous state is unchanged") from None


def _check_place(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise SnapshotError(f"{directory} is a file, a memory needs a directory of its own; choose another path")
    if directory.is_dir() and not (directory / MANIFEST).exists() and any(not is_ours(path.name) for path in directory.iterdir()):
        raise SnapshotError(f"{directory} holds files but no memory ({MANIFEST} is missing); choose an empty or new directory")


def _save(memory: Memory, directory: Path, own_store: SegmentDirectory | None, seen: str | None, overwrite: bool) -> None:
    before = read_manifest(directory) if (directory / MANIFEST).exists() else None
    if before is not None:  # what is not a memory of this version is not replaced
        _check_not_newer(memory, directory, before, seen, overwrite)
    save = _Save(memory, directory, own_store)
    try:
        manifest = _manifest(memory, save.groups)
        check_numbers(manifest, memory.encoder.vocabulary)  # what is stored opens again
        with temporary_directory(directory, SAVING) as aside:
            save.keep_segments()
            save.write_aside(aside, manifest)
            save.commit(aside)
    except BaseException as error:
        if not save.stands_despite(error):
            raise
    save.finish()


class _Save:
    """One save under way: its steps, and what to do where one fails.

    Args:
        own_store: the directory of the memory's segments, if it is saved into that very one.
    """

    def __init__(self, memory: Memory, directory: Path, own_store: SegmentDirectory | None) -> None:
        self.memory, self.directory, self.own_store = memory, directory, own_store
        self.name = f"memory-{secrets.token_hex(8)}.safetensors"
        self.groups = [segment_manifest.segments_of(store) for store in memory.long_term.stores]
        self.segments = [segment.name for group in self.groups for segment in group.segments]
        self.place = identity(directory)
        self._saved_before = [] if own_store is None else own_store.saved
        self._linked: list[Path] = []
        self._committing = False

    def keep_segments(self) -> None:
        """Put the segments into the directory; before the commit, so that an interrupt behind it does not cost these files."""
        if self.own_store is None:
            self._linked = segment_manifest.link_into(self.groups, self.directory)
        else:
            self.own_store.set_saved([*self._saved_before, *self.segments])

    def write_aside(self, aside: Path, manifest: dict[str, Any]) -> None:
        """Make the data file and the manifest, flushed."""
        data = aside / self.name
        save_file(_tensors(self.memory), data)
        honour_umask(data, aside)
        flush(data)
        (aside / MANIFEST).write_bytes(as_file({**manifest, "data": _described(data)}))
        flush(aside / MANIFEST)

    def commit(self, aside: Path) -> None:
        """Put the data file in place, then the manifest: what fails later takes nothing back."""
        os.replace(aside / self.name, self.directory / self.name)
        flush_names(self.directory)
        self._committing = True
        os.replace(aside / MANIFEST, self.directory / MANIFEST)

    def stands_despite(self, error: BaseException) -> bool:
        """Tell whether the save goes on although a step failed, because it is committed; else all is as before, and the error is to be raised.

        Raises:
            SnapshotError: it cannot be found out, or the memory cannot be stored.
        """
        stored = self._committing and _is_named(self.directory, self.name)
        if stored is None:
            if isinstance(error, Exception):
                what = f"it is not known whether the memory is stored in {self.directory} ({error})"
                raise SnapshotError(f"{what}; open it to see, then save again") from None
            return False
        if stored:
            log.warning("the memory is stored in %s, but what followed was interrupted", self.directory)
            _note(self.memory, self.name, self.place)
            return isinstance(error, Exception)
        for path in (self.directory / self.name, *self._linked):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        if self.own_store is not None:
            self.own_store.set_saved(self._saved_before)
        if isinstance(error, (TypeError, ValueError)):
            raise SnapshotError(f"memory not stored in {self.directory}: {error}; the previous state is unchanged") from None
        return False

    def finish(self) -> None:
        """Remember the state that is stored now and remove the one before."""
        _note(self.memory, self.name, self.place)
        try:
            flush_names(self.directory)
        except OSError as error:  # the state before stays beside it: after a loss of power it may be the one that is named
            log.warning("the memory is stored in %s, but not flushed to the disk (%s)", self.directory, error)
            return
        with contextlib.suppress(OSError):
            _clear_up(self.directory, {self.name, *self.segments}, own_store=self.own_store is not None)
        if self.own_store is not None:
            self.own_store.set_saved(self.segments)


def _clear_up(directory: Path, wanted: set[str], *, own_store: bool) -> None:
    """Remove the state before and what killed saves have left; a file that stays is no harm."""
    unmapped = unmapped_in(directory)  # by a fork, or a memory that was opened here
    for path in directory.iterdir():
        name = path.name
        if name in wanted | unmapped or not (STATE.fullmatch(name) or ASIDE.fullmatch(name) or is_segment(name)):
            continue
        if name == MANIFEST or (own_store and not name.startswith(SAVING) and (is_segment(name) or ASIDE.fullmatch(name))):
            continue  # its home knows which of them are needed
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _note(memory: Memory, name: str, place: tuple[int, int]) -> None:
    """Remember a state that this memory was opened from or saved as; the oldest ones are forgotten some day."""
    memory.stored[name] = place
    while len(memory.stored) > STATES_KNOWN:
        del memory.stored[next(iter(memory.stored))]


def _is_named(directory: Path, name: str) -> bool | None:
    """Whether the manifest names this data file; None where that cannot be found out."""
    try:
        return _data_name(read_json_object(directory / MANIFEST, largest_bytes=LARGEST_BYTES)) == name
    except FileNotFoundError:
        return False
    except UnreadableJsonError:
        return None


def _check_not_newer(memory: Memory, directory: Path, manifest: dict[str, Any], seen: str | None, overwrite: bool) -> None:
    """Refuse to replace a state that somebody else stored since; what was written into it would be gone without a word.

    Args:
        seen: data file of the state that was there when the save was asked for.
    """
    there = _data_name(manifest)
    if overwrite or there in memory.stored:
        return
    if there != seen or identity(directory) in memory.stored.values():
        raise SnapshotError(
            f"the memory in {directory} was stored by somebody else since this one was opened from or saved to it; "
            "load it and write again, save elsewhere, or replace it with save(..., overwrite=True)"
        )
    log.warning("another memory was stored in %s (%s tokens read); it is replaced", directory, manifest.get("tokens_read"))


def _named_data(directory: Path) -> str | None:
    """The data file that the manifest names now, if it can be read."""
    try:
        return _data_name(read_manifest(directory))
    except SnapshotError:
        return None


def _data_name(manifest: dict[str, Any]) -> str | None:
    entry = manifest.get("data")
    return str(entry.get("file")) if isinstance(entry, dict) else None


def load(directory: str | Path, model: Encoder, store: Storage | str | Path | None = None, *, check_rows: bool = False) -> Memory:
    """Open a stored memory with the model that wrote it; see ``Memory.load``."""
    directory = absolute_directory(directory)
    try:
        if not _goes_on_in(directory, store):
            return _load_as_reader(directory, model, store, check_rows)
        with exclusive_change(
            directory, in_own_store=True
        ):  # nobody saves between a look at the manifest and the store's own lock
            memory = _load(directory, read_manifest(directory), model, store, check_rows)
            assert isinstance(memory.storage, DiskStorage)
            memory.storage.segment_directory.clear_leftovers()  # only now is it known that the memory is good
            return memory
    except OSError as error:
        raise SnapshotError(
            f"memory {directory} cannot be read: {error}; look at the disk, or restore it from a backup"
        ) from None


def _load_as_reader(directory: Path, model: Encoder, store: Storage | str | Path | None, check_rows: bool) -> Memory:
    """Open what is stored, whole; where it is replaced meanwhile, open what replaced it."""
    for _ in range(READ_AGAIN):
        manifest = read_manifest(directory)
        try:
            return _load(directory, manifest, model, store, check_rows)
        except (SnapshotError, OSError):  # a file that was taken away between two looks at it
            if _named_data(directory) in (_data_name(manifest), None):
                raise
    return _load(directory, read_manifest(directory), model, store, check_rows)


def _goes_on_in(directory: Path, store: Storage | str | Path | None) -> bool:
    """Whether a store is the directory that the memory is stored in."""
    if not isinstance(store, (str, Path)) or store == "ram" or not directory.is_dir():
        return False
    there = absolute_directory(store)
    return there.is_dir() and there.samefile(directory)


def _load(
    directory: Path, manifest: dict[str, Any], model: Encoder, store: Storage | str | Path | None, check_rows: bool
) -> Memory:
    from mplus.memory.memory import Memory

    try:
        check_model(manifest["model"], model, directory)
        check_numbers(manifest, model.vocabulary)
        geometry = Geometry(**manifest["geometry"])
        groups = segment_manifest.from_json(manifest["ltm_segments"], directory) if manifest["format"] == WITH_SEGMENTS else []
        if check_rows:
            for segment in (segment for group in groups for segment in group.segments):
                segment.check_content()
        tensors = _read_data(directory, manifest["data"])
        try:
            memory = Memory(
                model,
                geometry,
                manifest["memory_format"],
                manifest["seed"],
                initialised=manifest["initialised_at_start"],
                store=_storage(store, directory, groups),
            )
        except GeometryError as error:
            raise WrongModelError(f"memory {directory} cannot be read by this model: {error}") from None
        restore(memory, manifest, tensors, groups, in_place=store is None)
        check_rows_of(memory, manifest)
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise SnapshotError(
            f"memory {directory} is damaged ({type(error).__name__}: {reason:.200}); restore it from a backup"
        ) from None
    _note(memory, str(manifest["data"]["file"]), identity(directory))
    return memory


def _tensors(memory: Memory) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {"stm.births": memory.short_term.births, "generator": memory.generator.get_state()}
    for name, value in memory.short_term.at_slots(
        memory.short_term.order
    ).items():  # rank order: slots are nobody's business on disk
        out[f"stm.{name}"] = value.contiguous()
    if memory.tail is not None:
        out["tail"] = memory.tail.contiguous()
    for group, store in enumerate(memory.long_term.stores):
        out.update(segment_manifest.loose_tensors(store, group))
    out.update(memory.long_term.index_state())
    return out


def _manifest(memory: Memory, groups: list[segment_manifest.GroupSegments]) -> dict[str, Any]:
    from mplus import __version__

    segments = {"ltm_segments": segment_manifest.to_json(groups)} if any(group.segments for group in groups) else {}
    return {
        "format": WITH_SEGMENTS if segments else PLAIN,
        "mplus": __version__,
        "model": identity_of(memory.encoder),
        "geometry": memory.geometry.flat(),
        "memory_format": memory.format,
        "seed": memory.seed,
        "now": memory.now,
        "tokens_read": memory.tokens_read,
        "initialised": memory.initialised,
        "initialised_at_start": memory.initialised_at_start,
        "stm_tokens": len(memory.short_term),
        "ltm_tokens": len(memory.long_term),
        "ltm_group_tokens": [len(store) for store in memory.long_term.stores],
        "ltm_waiting": memory.long_term.waiting,
        "writes_since_merge": memory.long_term.writes_since_merge,
        "pending": [[source, ids] for source, ids in memory.pending],
        "chunks": memory.ledger.to_json(),
        "sources": memory.ledger.tokens_by_source(),
        **segments,
    }


def _described(path: Path) -> dict[str, Any]:
    """What a manifest says of the data file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _read_data(directory: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
    path = directory / str(entry["file"])
    if path.parent != directory or not path.is_file():
        raise SnapshotError(f"memory {directory} lacks its data file {entry['file']}; restore it from a backup")
    if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
        raise SnapshotError(f"{path} was truncated or altered since it was saved; restore it from a backup")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise SnapshotError(f"{path} cannot be read ({error}); restore it from a backup") from None


def _own_home(memory: Memory, directory: Path) -> SegmentDirectory | None:
    """The home of a memory's segments, if it is saved into the very directory they lie in."""
    if not isinstance(memory.storage, DiskStorage) or not directory.is_dir():
        return None
    segment_directory = memory.storage.segment_directory
    return segment_directory if directory.samefile(segment_directory.path) else None


def _storage(store: Storage | str | Path | None, directory: Path, groups: list[segment_manifest.GroupSegments]) -> Storage:
    if _goes_on_in(directory, store):
        return DiskStorage(directory, saved=[segment.name for group in groups for segment in group.segments])
    return storage_at("ram" if store is None else store)
