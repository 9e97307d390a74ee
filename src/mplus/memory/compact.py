"""Segments of a stored memory written again without the rows that nobody needs. Reads bytes, not numbers; knows no model, brings no torch.

Segments are immutable: what was forgotten leaves a memory at once and its data file with the next save, but a segment that holds some of
its rows beside those of others stays as it is. After this no byte of them is left in the directory. Like a save, it replaces the manifest
last, in one rename.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mplus.errors import SnapshotError
from mplus.memory.file_names import MANIFEST, SAVING
from mplus.memory.leftovers import remove, unneeded
from mplus.memory.manifest import CHECKSUM, ENCRYPTED, FORMAT, as_file, read_manifest
from mplus.memory.parts import BLOCK_BYTES, check_size, parts_of
from mplus.memory.stores.lock import exclusive_change
from mplus.memory.tensor_file import TensorEntry, TensorFileError, tensors_in
from mplus.runtime.atomic import flush, flush_names, honour_umask, sha256, temporary_directory
from mplus.runtime.input_file import absolute_directory

PATIENCE_S = 30.0
EXTENTS = "extents"
"""Tensor of the data file: number of the segment, first row in it, rows, first row in the log."""
_Runs = list[tuple[int, int]]


@dataclass(frozen=True)
class CompactReport:
    """What ``compact`` did.

    Attributes:
        segments, rewritten: segments of the memory, and those of them that were written again.
        rows_removed: that nobody needed.
        bytes_before, bytes_after: of all files of the memory.
    """

    segments: int
    rewritten: int
    rows_removed: int
    bytes_before: int
    bytes_after: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def compact(directory: str | Path, *, timeout_s: float = PATIENCE_S) -> CompactReport:
    """Write segments that hold rows of nobody again without them, whole or not at all.

    A memory that was opened before goes on with what it has; to save it here it has to be loaded again.

    Raises:
        SnapshotError: no memory there, damaged, in use, of an older format, or it cannot be written; what was there is unchanged.
    """
    home = absolute_directory(directory)
    read_manifest(home)
    try:
        with exclusive_change(home, timeout_s=timeout_s):
            return _compact(home)
    except (OSError, TensorFileError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SnapshotError(f"memory {home} was not compacted: {reason}; it is unchanged") from None


def _compact(home: Path) -> CompactReport:
    manifest = read_manifest(home)
    if manifest["format"] == ENCRYPTED:  # a source has a file of its own, which goes with it
        return _nothing_to_do(home, manifest)
    if manifest["format"] != FORMAT:
        raise SnapshotError(
            f"memory {home} has the older format {manifest['format']}; load and save it once (any `mplus write` does), then compact it"
        )
    parts = parts_of(manifest, home)
    for part in parts:
        check_size(part, home)
    data = home / manifest["data"]["file"]
    extents, place = _extents(data, len(manifest["segments"]), home)
    runs = [_joined(extents[extents[:, 0] == number, 1:3].tolist()) for number in range(len(manifest["segments"]))]
    counts = [entry["rows"] - sum(rows for _, rows in own) for entry, own in zip(manifest["segments"], runs, strict=True)]
    before = sum(part.size_bytes for part in parts)
    if not any(counts):
        return _nothing_to_do(home, manifest)
    with temporary_directory(home, SAVING) as aside:
        segments = list(manifest["segments"])
        for number, count in enumerate(counts):
            if count:
                segments[number] = _rewritten(home, aside, segments[number], runs[number])
                _move(extents, number, runs[number])
        segments = _each_once(segments, extents)
        changed = {**manifest, "segments": segments, "data": _data(data, aside, extents, place)}
        changed.pop(CHECKSUM, None)
        _commit(home, aside, changed)
    _clear(home, changed)
    after = sum(part.size_bytes for part in parts_of(changed, home))
    return CompactReport(len(runs), sum(map(bool, counts)), sum(counts), before, after)


def _nothing_to_do(home: Path, manifest: dict[str, Any]) -> CompactReport:
    _clear(home, manifest)
    size_bytes = sum(part.size_bytes for part in parts_of(manifest, home))
    return CompactReport(len(manifest["segments"]), 0, 0, size_bytes, size_bytes)


def _extents(data: Path, segments: int, home: Path) -> tuple[NDArray[np.int64], TensorEntry]:
    """The table [e, 4] of where rows lie, and its place in the data file."""
    entry = next((entry for entry in tensors_in(data) if entry.name == EXTENTS), None)
    if entry is None or entry.dtype != "I64" or entry.shape[1:] != (4,):
        raise SnapshotError(f"{data} does not say where rows lie; restore it from a backup")
    with data.open("rb") as file:
        file.seek(entry.start)
        table = np.frombuffer(file.read(entry.stop - entry.start), "<i8").reshape(-1, 4).copy()
    if table.size and (table.min() < 0 or table[:, 0].max() >= segments):
        raise SnapshotError(f"{data} names rows of segments that memory {home} does not have; restore it from a backup")
    return table, entry


def _joined(runs: Iterable[tuple[int, int]]) -> _Runs:
    """Runs (first row, rows) in order, those that touch or overlap as one: rows may be used twice."""
    out: _Runs = []
    for first, rows in sorted(runs):
        if out and first <= sum(out[-1]):
            begin = out[-1][0]
            out[-1] = (begin, max(sum(out[-1]), first + rows) - begin)
        else:
            out.append((first, rows))
    return out


def _move(extents: NDArray[np.int64], number: int, runs: _Runs) -> None:
    """Have the extents of a segment point to where its rows are when only `runs` of them are left."""
    at = 0
    own = extents[:, 0] == number
    firsts = extents[:, 1].copy()
    for first, rows in runs:
        inside = own & (firsts >= first) & (firsts < first + rows)
        extents[inside, 1] = firsts[inside] - first + at
        at += rows


def _each_once(segments: list[dict[str, Any]], extents: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Segments without those that have become the same as another one, whose rows the extents now find there."""
    unique = {entry["file"]: entry for entry in segments}
    place = {name: number for number, name in enumerate(unique)}
    extents[:, 0] = np.array([place[entry["file"]] for entry in segments], np.int64)[extents[:, 0]]
    return list(unique.values())


def _rewritten(home: Path, aside: Path, entry: dict[str, Any], runs: _Runs) -> dict[str, Any]:
    """A segment with only these rows, flushed aside; what a manifest says of it."""
    source, count = home / entry["file"], sum(rows for _, rows in runs)
    tensors = tensors_in(source)
    if any(tensor.shape[:1] != (entry["rows"],) or sum(runs[-1]) > entry["rows"] for tensor in tensors):
        raise SnapshotError(f"{source} does not hold {entry['rows']:,} rows; restore it from a backup")
    made = aside / "segment"
    with source.open("rb") as old, made.open("xb") as new:
        new.write(_head(tensors, count))
        for tensor in tensors:
            row_bytes = (tensor.stop - tensor.start) // entry["rows"]
            for first, rows in runs:
                _copy(old, tensor.start + first * row_bytes, rows * row_bytes, new)
    honour_umask(made, aside, read_only=True)
    flush(made)
    digest = sha256(made)
    path = made.rename(aside / f"segment-{digest[:16]}.safetensors")
    return {"file": path.name, "rows": count, "bytes": path.stat().st_size, "sha256": digest}


def _copy(source: IO[bytes], start: int, size_bytes: int, target: IO[bytes]) -> None:
    source.seek(start)
    while size_bytes and (block := source.read(min(size_bytes, BLOCK_BYTES))):
        target.write(block)
        size_bytes -= len(block)
    if size_bytes:
        raise TensorFileError("a segment ends early")


def _head(tensors: list[TensorEntry], rows: int) -> bytes:
    head, at = dict[str, Any](), 0
    for tensor in tensors:
        size_bytes = (tensor.stop - tensor.start) // max(1, tensor.shape[0]) * rows
        head[tensor.name] = {"dtype": tensor.dtype, "shape": [rows, *tensor.shape[1:]], "data_offsets": [at, at + size_bytes]}
        at += size_bytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text


def _data(data: Path, aside: Path, extents: NDArray[np.int64], place: TensorEntry) -> dict[str, Any]:
    """The data file with another table of extents, flushed aside; what a manifest says of it."""
    made = aside / f"memory-{secrets.token_hex(8)}.safetensors"
    content = bytearray(data.read_bytes())
    content[place.start : place.stop] = extents.astype("<i8").tobytes()
    made.write_bytes(content)
    honour_umask(made, aside)
    flush(made)
    return {"file": made.name, "bytes": len(content), "sha256": sha256(made)}


def _commit(home: Path, aside: Path, manifest: dict[str, Any]) -> None:
    """The files first, then the manifest that names them."""
    (aside / MANIFEST).write_bytes(as_file(manifest))
    flush(aside / MANIFEST)
    made = [path for path in aside.iterdir() if path.name != MANIFEST]
    new = [home / path.name for path in made if not (home / path.name).exists()]
    try:
        for path in made:
            os.replace(path, home / path.name)
        flush_names(home)
        os.replace(aside / MANIFEST, home / MANIFEST)
    except BaseException:
        for path in new:
            remove(path)
        raise
    flush_names(home)


def _clear(home: Path, manifest: dict[str, Any]) -> None:
    for path in unneeded(home, {part.name for part in parts_of(manifest, home)}):
        remove(path)
