"""Memories on disk: one manifest (JSON), one data file (safetensors) and the rows in immutable segments. Knows nothing of models.

A save writes the rows that lie in no segment yet, then the data file, which has a name of its own for every save; the manifest is
replaced last, in one rename. So a reader sees the old state or the new one, never a mixture. ``docs/file-format.md`` has every byte.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mplus.errors import GeometryError, InputError, SnapshotError, WrongModelError
from mplus.memory import leftovers, old_formats, state_file
from mplus.memory.file_names import ASIDE, MANIFEST, SAVING, is_ours, is_segment
from mplus.memory.identity import check_model, identity_of
from mplus.memory.ledger import Ledger
from mplus.memory.log import Extent, RowLog, Slab
from mplus.memory.manifest import ENCRYPTED, FORMAT, LARGEST_BYTES, OLD_FORMATS, READ_AGAIN, as_file, check_numbers, read_manifest
from mplus.memory.stores.disk import DiskStorage
from mplus.memory.stores.lock import exclusive_change, identity
from mplus.memory.stores.segment_directory import SegmentDirectory
from mplus.memory.stores.segments import Segment, link_segment, unmapped_in, write_segment
from mplus.runtime.atomic import flush, flush_names, honour_umask, sha256, temporary_directory
from mplus.runtime.folder import names_in
from mplus.runtime.input_file import absolute_directory
from mplus.runtime.json_file import UnreadableJsonError, read_json_object
from mplus.settings import Geometry

if TYPE_CHECKING:
    from mplus.memory.keys import Keys
    from mplus.memory.memory import Encoder, Memory

log = logging.getLogger(__name__)
STATES_KNOWN = 1000
MANY_SMALL, SMALL_SHARE = 16, 4
"""More segments than this with less than a fourth of the usual rows are written again as one."""
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
    if directory.is_dir() and not (directory / MANIFEST).exists() and not all(map(is_ours, names_in(directory))):
        raise SnapshotError(f"{directory} holds files but no memory ({MANIFEST} is missing); choose an empty or new directory")


def _save(memory: Memory, directory: Path, own_store: SegmentDirectory | None, seen: str | None, overwrite: bool) -> None:
    before = read_manifest(directory) if (directory / MANIFEST).exists() else None
    if before is not None:  # what is not a memory of this version is not replaced
        _check_not_newer(memory, directory, before, seen, overwrite)
    save = _save_of(memory, directory, own_store, before)
    try:
        manifest = manifest_of(memory)
        check_numbers(manifest, memory.encoder.vocabulary)  # what is stored opens again
        with temporary_directory(directory, SAVING) as aside:
            save.keep_rows()
            save.write_aside(aside, manifest)
            save.commit(aside)
    except BaseException as error:
        if not save.stands_despite(error):
            raise
    save.finish()


def _save_of(memory: Memory, directory: Path, own_store: SegmentDirectory | None, before: dict[str, Any] | None) -> Save:
    if memory.keys is not None:
        from mplus.memory.encrypted_snapshot import EncryptedSave

        return EncryptedSave(memory, directory, before)
    if before is not None and before["format"] == ENCRYPTED:
        raise SnapshotError(
            f"the memory in {directory} is encrypted, this one would be stored as it is; set memory.keys, or save it elsewhere"
        )
    return Save(memory, directory, own_store)


class Save:
    """One save under way: its steps, and what to do where one fails.

    Args:
        own_store: the directory of the memory's segments, if it is saved into that very one.
    """

    def __init__(self, memory: Memory, directory: Path, own_store: SegmentDirectory | None) -> None:
        self.memory, self.directory, self.own_store = memory, directory, own_store
        self.name = f"memory-{secrets.token_hex(8)}.safetensors"
        self.places: list[tuple[Segment, int, int, int]] = []
        """Where rows lie: (segment, first row in it, rows, first row in the log)."""
        self.moved: list[tuple[list[Extent], Segment]] = []
        self.place = identity(directory)
        self._saved_before = [] if own_store is None else own_store.saved
        self._new_files: list[Path] = []
        self._committing = False

    @property
    def segments(self) -> list[Segment]:
        """Segments that hold the rows, each once."""
        return list({segment.name: segment for segment, *_ in self.places}.values())

    @property
    def names(self) -> set[str]:
        """Files that the memory will consist of, beside its manifest."""
        return {self.name, *(segment.name for segment in self.segments)}

    def keep_rows(self) -> None:
        """Put all rows into segments of the directory; before the commit, so that an interrupt behind it does not cost these files."""
        log, unstored = self.memory.state.log, list[Extent]()
        stored = list(_stored(log))
        small = _small_segments(stored, log.segment_rows)
        held = Counter[str]()
        for part, place in stored:
            if place is not None:
                held[place[0].name] += part.rows
        for part, place in stored:
            if place is None or place[0] in small or not self._may_link(place[0], held):
                unstored.append(part)
            else:
                self.places.append((self._linked(place[0]), place[1], part.rows, part.row))
        in_ram = [extent for extent in unstored if isinstance(extent.piece, Slab)]
        mapped = [extent for extent in unstored if not isinstance(extent.piece, Slab)]
        for bunch in (*_bunches(in_ram, log.segment_rows), *_bunches(mapped, log.segment_rows)):
            segment = self._written(log, bunch)
            self.moved.append((bunch, segment))
            at = 0
            for extent in bunch:
                self.places.append((segment, at, extent.rows, extent.row))
                at += extent.rows
        self.places.sort(key=lambda place: place[3])
        if self.own_store is not None:
            self.own_store.set_saved([*self._saved_before, *(segment.name for segment in self.segments)])

    def _may_link(self, segment: Segment, held: Mapping[str, int]) -> bool:
        """Tell whether a segment may be in the directory: one from elsewhere must hold nothing but rows of this memory."""
        return (self.directory / segment.name).exists() or (held[segment.name] == segment.rows and segment.path.exists())

    def _written(self, log: RowLog, extents: list[Extent]) -> Segment:
        columns = log.columns_of(extents)
        if self.own_store is not None:
            return self.own_store.write(columns, log.fields)
        before = names_in(self.directory)
        segment = write_segment(self.directory, columns, log.fields)
        self._new_files += [] if segment.name in before else [segment.path]
        return segment

    def _linked(self, segment: Segment) -> Segment:
        path = self.directory / segment.name
        if not path.exists():
            self._new_files.append(path)
        return link_segment(segment, self.directory)

    def write_aside(self, aside: Path, manifest: dict[str, Any]) -> None:
        """Make the data file and the manifest, flushed."""
        data = aside / self.name
        segments = self.segments
        number = {segment.name: place for place, segment in enumerate(segments)}
        extents = [(number[segment.name], first, rows, row) for segment, first, rows, row in self.places]
        save_file(state_file.tensors_of(self.memory.state, extents), data)
        honour_umask(data, aside)
        flush(data)
        named = {"segments": [segment.to_json() for segment in segments], "data": described(data)}
        (aside / MANIFEST).write_bytes(as_file({**manifest, **named}))
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
            note(self.memory, self.name, self.place)
            return isinstance(error, Exception)
        for path in (self.directory / self.name, *self._new_files):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        if self.own_store is not None:
            self.own_store.set_saved(self._saved_before)
        if isinstance(error, (TypeError, ValueError)):
            raise SnapshotError(f"memory not stored in {self.directory}: {error}; the previous state is unchanged") from None
        return False

    def finish(self) -> bool:
        """Remember the state that is stored now and remove the one before; whether the disk has it for sure."""
        note(self.memory, self.name, self.place)
        self._note_files()
        try:
            flush_names(self.directory)
        except OSError as error:  # the state before stays beside it: after a loss of power it may be the one that is named
            log.warning("the memory is stored in %s, but not flushed to the disk (%s)", self.directory, error)
            return False
        with contextlib.suppress(OSError):
            _clear_up(self.directory, self.names, own_store=self.own_store is not None)
        if self.own_store is not None:
            self.own_store.set_saved([segment.name for segment in self.segments])
        return True

    def _note_files(self) -> None:
        """Remember which rows lie in which file, so that the next save writes only what is new."""
        for extents, segment in self.moved:
            at, mapped = 0, False
            for extent in extents:
                if isinstance(extent.piece, Slab):
                    extent.piece.note_stored(extent.first, extent.rows, segment, at)
                else:
                    mapped = True
                at += extent.rows
            segment.is_copy = not mapped
            if mapped and self.memory.storage is None:  # small segments that were written as one
                state = self.memory.state
                log = state.log.moved([extent for extent in extents if extent in state.log.extents], segment)
                if len(extents) == sum(extent in state.log.extents for extent in extents):
                    groups = state.placement.long
                    self.memory.become(replace(state, log=log, long_term=state.long_term.followed_by(log, groups)))


def _stored(log: RowLog) -> Iterator[tuple[Extent, tuple[Segment, int] | None]]:
    """All rows, in parts, each with the file and place where it lies, if there is one."""
    for extent in log.extents:
        if isinstance(extent.piece, Slab):
            yield from _stored_parts(extent)
        else:
            yield extent, (extent.piece, extent.first)


def _stored_parts(extent: Extent) -> Iterator[tuple[Extent, tuple[Segment, int] | None]]:
    """Parts of an extent in RAM, each with the file and place where it lies too, if there is one."""
    assert isinstance(extent.piece, Slab)
    at, end = extent.first, extent.first + extent.rows
    while at < end:
        run = next(
            (run for run in reversed(extent.piece.stored) if run[0] <= at < run[0] + run[1] and run[2].path.exists()), None
        )
        if run is None:
            stop = min([end, *(first for first, _, segment, _ in extent.piece.stored if first > at and segment.path.exists())])
            place = None
        else:
            stop = min(end, run[0] + run[1])
            place = (run[2], run[3] + at - run[0])
        yield extent.cut(extent.row + at - extent.first, extent.row + stop - extent.first), place
        at = stop


def _small_segments(stored: Sequence[tuple[Extent, tuple[Segment, int] | None]], usual_rows: int) -> set[Segment]:
    """Segments that a few rows each lie in, when they are many: they are written again as one."""
    held: dict[Segment, int] = {}
    for part, place in stored:
        if place is not None:
            held[place[0]] = held.get(place[0], 0) + part.rows
    small = {segment for segment, rows in held.items() if rows < usual_rows // SMALL_SHARE}
    return small if len(small) > MANY_SMALL else set()


def _bunches(extents: list[Extent], rows: int) -> Iterator[list[Extent]]:
    """Extents in bunches of at most so many rows."""
    bunch, count = list[Extent](), 0
    for extent in extents:
        for begin in range(0, extent.rows, rows):
            part = extent.cut(extent.row + begin, extent.row + begin + rows)
            if bunch and count + part.rows > rows:
                yield bunch
                bunch, count = [], 0
            bunch.append(part)
            count += part.rows
    if bunch:
        yield bunch


def _clear_up(directory: Path, wanted: set[str], *, own_store: bool) -> None:
    """Remove the state before and what killed saves have left; a file that stays is no harm."""
    unmapped = unmapped_in(directory)  # by a fork, or a memory that was opened here
    for path in leftovers.unneeded(directory, wanted | unmapped):
        name = path.name
        if own_store and not name.startswith(SAVING) and (is_segment(name) or ASIDE.fullmatch(name)):
            continue  # its home knows which of them are needed
        leftovers.remove(path)


def note(memory: Memory, name: str, place: tuple[int, int]) -> None:
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


def is_known(memory: Memory, directory: Path) -> bool:
    """Tell whether what is stored in a directory is a state that this memory was opened from or saved as."""
    return _named_data(directory) in memory.stored


def _named_data(directory: Path) -> str | None:
    """The data file that the manifest names now, if it can be read."""
    try:
        return _data_name(read_manifest(directory))
    except SnapshotError:
        return None


def _data_name(manifest: dict[str, Any]) -> str | None:
    entry = manifest.get("data")
    return str(entry.get("file")) if isinstance(entry, dict) else None


def load(
    directory: str | Path,
    model: Encoder,
    store: DiskStorage | str | Path | None = None,
    *,
    check_rows: bool = False,
    keys: Keys | None = None,
) -> Memory:
    """Open a stored memory with the model that wrote it; see ``Memory.load``."""
    directory = absolute_directory(directory)
    try:
        if read_manifest(directory)["format"] == ENCRYPTED:
            from mplus.memory.encrypted_snapshot import load_encrypted

            return load_encrypted(directory, model, store, keys)
        if not _goes_on_in(directory, store):
            memory = _load_as_reader(directory, model, store, check_rows)
            leftovers.clear(directory, unmapped_in(directory))
            return memory
        with exclusive_change(
            directory, in_own_store=True
        ):  # nobody saves between a look at the manifest and the store's own lock
            memory = _load(directory, read_manifest(directory), model, store, check_rows)
            assert memory.storage is not None
            memory.storage.segment_directory.clear_leftovers()  # only now is it known that the memory is good
            return memory
    except OSError as error:
        raise SnapshotError(
            f"memory {directory} cannot be read: {error}; look at the disk, or restore it from a backup"
        ) from None


def read_ledger(directory: Path) -> tuple[dict[str, Any], Ledger]:
    """The manifest of a stored memory and what was written into it, whatever model wrote it; formats 1 and 2 kept no token ids.

    Raises:
        SnapshotError: there is none, or it is damaged.
    """
    manifest = read_manifest(directory)
    try:
        if manifest["format"] == ENCRYPTED:
            raise SnapshotError(
                f"memory {directory} is encrypted, and its texts are read only by its own model and keys; open it there"
            )
        if manifest["format"] in OLD_FORMATS:
            return manifest, old_formats.ledger_of(manifest, traceable=False, end=0)
        return manifest, state_file.ledger_of(manifest, read_data(directory, manifest["data"]), int(manifest["rows"]))
    except DAMAGE as error:
        raise SnapshotError(
            f"memory {directory} is damaged ({type(error).__name__}: {error!s:.200}); restore it from a backup"
        ) from None


def _load_as_reader(directory: Path, model: Encoder, store: DiskStorage | str | Path | None, check_rows: bool) -> Memory:
    return as_reader(directory, lambda manifest: _load(directory, manifest, model, store, check_rows))


def as_reader(directory: Path, opened: Callable[[dict[str, Any]], Memory]) -> Memory:
    """Open what is stored, whole; where it is replaced meanwhile, open what replaced it."""
    for _ in range(READ_AGAIN):
        manifest = read_manifest(directory)
        try:
            return opened(manifest)
        except (SnapshotError, OSError):  # a file that was taken away between two looks at it
            if _named_data(directory) in (_data_name(manifest), None):
                raise
    return opened(read_manifest(directory))


def _goes_on_in(directory: Path, store: DiskStorage | str | Path | None) -> bool:
    """Whether a store is the directory that the memory is stored in."""
    if not isinstance(store, (str, Path)) or store == "ram" or not directory.is_dir():
        return False
    there = absolute_directory(store)
    return there.is_dir() and there.samefile(directory)


def _load(
    directory: Path, manifest: dict[str, Any], model: Encoder, store: DiskStorage | str | Path | None, check_rows: bool
) -> Memory:
    from mplus.memory.memory import Memory

    try:
        check_model(manifest["model"], model, directory)
        check_numbers(manifest, model.vocabulary)
        old = manifest["format"] in OLD_FORMATS
        geometry = Geometry(**(old_formats.geometry_of(manifest["geometry"]) if old else manifest["geometry"]))
        groups = _segments(manifest, directory)
        for segment in (segment for group, _ in groups for segment in group):
            segment.check_content() if check_rows else segment.check_size()
        tensors = read_data(directory, manifest["data"])
        try:
            memory = Memory(
                model,
                geometry,
                manifest["memory_format"],
                manifest["seed"],
                initialised=manifest["initialised_at_start"],
                store=_storage(store, directory, [segment.name for group, _ in groups for segment in group]),
            )
        except GeometryError as error:
            raise WrongModelError(f"memory {directory} cannot be read by this model: {error}") from None
        if memory.storage is not None:
            own = memory.storage.segment_directory
            groups = [([own.adopt(segment) for segment in group], start) for group, start in groups]
        if old:
            state = old_formats.state_of(memory, manifest, tensors, groups)
        else:
            log = state_file.log_of(memory, manifest, tensors, groups[0][0])
            state = state_file.state_of(memory, manifest, tensors, log if store is None or memory.storage else _in_ram(log))
        memory.become(state)
        memory.note_chunks()
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise SnapshotError(
            f"memory {directory} is damaged ({type(error).__name__}: {reason:.200}); restore it from a backup"
        ) from None
    note(memory, str(manifest["data"]["file"]), identity(directory))
    return memory


def _in_ram(log: RowLog) -> RowLog:
    """The same rows, copied out of their files."""
    copied = log.empty()
    for extent in log.extents:
        rows = {name: extent.part(log.fields, name) for name in log.fields}
        copied, _ = copied.with_gap_to(extent.row).appended(rows)
    return copied.with_gap_to(log.end)


def _segments(manifest: dict[str, Any], directory: Path) -> list[tuple[list[Segment], int]]:
    """Segments that a manifest names, in one group or, in old formats, several, and how many rows of each first one are forgotten."""
    entries = (
        [{"segments": manifest["segments"], "start": 0}] if manifest["format"] == FORMAT else manifest.get("ltm_segments", [])
    )
    groups = []
    for entry in entries:
        segments, start = [Segment.from_json(one, directory) for one in entry["segments"]], entry["start"]
        if type(start) is not int or start < 0 or (segments and start >= segments[0].rows) or (start and not segments):
            raise ValueError(f"{start} rows cannot be forgotten of the first segment")
        groups.append((segments, start))
    names = [segment.name for group, _ in groups for segment in group]
    if len(set(names)) < len(names):
        raise ValueError("a segment is named twice")
    return groups


def manifest_of(memory: Memory) -> dict[str, Any]:
    """What the manifest says of a memory, whatever files it is stored in."""
    from mplus import __version__

    return {
        "format": FORMAT,
        "mplus": __version__,
        "model": identity_of(memory.encoder),
        "geometry": memory.geometry.flat(),
        "memory_format": memory.format,
        "seed": memory.seed,
        "initialised_at_start": memory.initialised_at_start,
        **state_file.json_of(memory.state),
    }


def described(path: Path) -> dict[str, Any]:
    """What a manifest says of the data file."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def read_data(directory: Path, entry: dict[str, Any]) -> dict[str, Tensor]:
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
    if memory.storage is None or not directory.is_dir():
        return None
    segment_directory = memory.storage.segment_directory
    return segment_directory if directory.samefile(segment_directory.path) else None


def _storage(store: DiskStorage | str | Path | None, directory: Path, segments: list[str]) -> DiskStorage | str | Path:
    if _goes_on_in(directory, store):
        return DiskStorage(directory, saved=segments)
    return "ram" if store is None else store
