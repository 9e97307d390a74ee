"""Long-term rows on disk: immutable segments and a small tail in RAM. Knows nothing about models or policies.

Legend: M rows held, k rows asked for.
Only rows that somebody reads come into RAM, and as page cache; so a store may be far larger than RAM.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mplus.errors import StoreError
from mplus.memory.stores.gathering import gathered, shares
from mplus.memory.stores.protocol import FieldSpec, Storage, bytes_per_row, pieces
from mplus.memory.stores.ram import RamStorage, RamStore
from mplus.memory.stores.segment_directory import SegmentDirectory
from mplus.memory.stores.segments import Segment
from mplus.runtime.input_file import absolute_directory

SEGMENT_ROWS, MOST_SEGMENT_ROWS = 4096, 65_536
SEGMENT_BYTES = 64 << 20
"""A segment has as many rows as come to about this, within the two bounds: many small files cost a step each at every read."""


class DiskStorage:
    """Every store in segment files of one directory.

    Args:
        path: made if absent; one memory and its forks at a time.
        segment_rows: rows of a segment, rounded up to whole blocks, also about what a store keeps in RAM; None: by their size.
        saved: names of the segments that the memory saved in `path` needs, when that is the one to go on with.

    Raises:
        StoreError: see ``SegmentDirectory``.
    """

    def __init__(self, path: Path, *, segment_rows: int | None = None, saved: Sequence[str] | None = None) -> None:
        self.segment_directory = SegmentDirectory(path, saved)
        self.segment_rows = segment_rows

    def new_store(self, fields: FieldSpec, row_multiple: int) -> DiskStore:
        return DiskStore(self.segment_directory, fields, row_multiple, segment_rows=self.segment_rows)


class DiskStore:
    """Old rows in mapped segments, the newest in RAM until they fill a segment.

    Args:
        home: where segments are written; None keeps whatever is appended in RAM.
        row_multiple: every piece holds a multiple of so many rows, so that no block of neighbours is cut in two.
        segments: rows to begin with, already claimed at `segment_directory`.
        start: rows of the first segment that are forgotten.
    """

    def __init__(
        self,
        segment_directory: SegmentDirectory | None,
        fields: FieldSpec,
        row_multiple: int = 1,
        *,
        segment_rows: int | None = None,
        segments: Sequence[Segment] = (),
        start: int = 0,
    ) -> None:
        self.segment_directory = segment_directory
        self.fields = dict(fields)
        self.row_multiple = row_multiple
        wanted = segment_rows or min(max(SEGMENT_BYTES // bytes_per_row(fields), SEGMENT_ROWS), MOST_SEGMENT_ROWS)
        self.segment_rows = -(-wanted // row_multiple) * row_multiple
        self.start = start
        self.segments = list(segments)  # changed in place only: the finaliser holds this list
        self.replaced: list[dict[str, Tensor]] = [{} for _ in self.segments]
        """Per segment, the fields that ``set_column`` replaced, [M, ...] in RAM."""
        self.tail = RamStore(self.fields, row_multiple)
        self._finalizer = None if segment_directory is None else weakref.finalize(self, segment_directory.release, self.segments)

    def __len__(self) -> int:
        return self._rows_in_segments + len(self.tail)

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows held, those on disk included."""
        return bytes_per_row(self.fields) * len(self)

    # -- adding ----------------------------------------------------------------------------------------------------

    def reserve(self, rows: int = 0) -> None:
        """Write full segments of the tail, and have RAM for `rows` more rows, a segment of them at most.

        Raises:
            StoreError: the directory cannot take them; the rows stay in RAM.
            RuntimeError, MemoryError: there is no room in RAM; nothing is lost.
        """
        while self.segment_directory is not None and len(self.tail) >= self.segment_rows:
            columns = {name: self.tail.column(name) for name in self.fields}
            segment = self.segment_directory.write(
                {name: value[: self.segment_rows] for name, value in columns.items()}, self.fields
            )
            rest = RamStore(self.fields, self.row_multiple)
            rest.append({name: value[self.segment_rows :] for name, value in columns.items()})
            self._seal(segment)
            self.tail = rest
        self.tail.reserve(min(rows, self.segment_rows))

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add rows [k, ...]; full segments are written first, so that rows which are refused have changed nothing.

        Raises:
            StoreError: see ``reserve``; of a call with more rows than a segment, the first ones may have been added.
        """
        count = next(iter(rows.values())).shape[0]
        for done in range(0, count, self.segment_rows):
            self.reserve()
            self.tail.append({name: rows[name][done : done + self.segment_rows] for name in self.fields})

    # -- reading ---------------------------------------------------------------------------------------------------

    def gather(self, index: Tensor, fields: tuple[str, ...]) -> dict[str, Tensor]:
        found = shares(index.cpu() + self.start, [*(segment.rows for segment in self.segments), len(self.tail)])
        sealed = [share for share in found if share.piece < len(self.segments)]
        for share in sealed:
            self.segments[share.piece].announce(share.places, self.fields, fields)
        out = gathered(sealed, index.shape[0], self.fields, fields, self._piece)
        for share in found[len(sealed) :]:
            for name, value in self.tail.gather(share.places, fields).items():
                out[name][share.rows] = value
        return out

    def parts(self, field: str) -> Iterator[Tensor]:
        for number in range(len(self.segments)):
            yield self._piece(number, field)[self.start if number == 0 else 0 :]
        yield from self.tail.parts(field)

    def column(self, field: str) -> Tensor:
        pieces = list(self.parts(field))
        if not pieces:
            return self.tail.column(field)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    # -- forgetting and changing -----------------------------------------------------------------------------------

    def evict_oldest(self, count: int) -> None:
        """Forget the first `count` rows; a segment goes when its last row does."""
        sealed = min(count, self._rows_in_segments)
        self.start += sealed
        whole = 0
        while whole < len(self.segments) and self.start >= self.segments[whole].rows:
            self.start -= self.segments[whole].rows
            whole += 1
        gone = self.segments[:whole]
        del self.segments[:whole], self.replaced[:whole]
        if self.segment_directory is not None:
            self.segment_directory.release(gone)
        self.tail.evict_oldest(count - sealed)

    def keep(self, mask: Tensor) -> None:
        """Forget the rows where `mask` [M] is False: in O(forgotten) at the old end, else all rows are written again.

        Rows that the directory cannot take stay in RAM until ``reserve`` can write them.
        """
        gone = (~mask).nonzero().flatten()
        if not gone.numel():
            return
        stays = mask.nonzero().flatten()
        oldest = int(stays[0]) if stays.numel() else len(self)
        if oldest % self.row_multiple == 0 and gone.numel() == oldest:
            self.evict_oldest(oldest)
            return
        compact = DiskStore(self.segment_directory, self.fields, self.row_multiple, segment_rows=self.segment_rows)
        done = 0
        for rows in pieces(self):
            count = next(iter(rows.values())).shape[0]
            kept = mask[done : done + count]
            with contextlib.suppress(StoreError):
                compact.reserve()
            compact.tail.append({name: part[kept] for name, part in rows.items()})
            done += count
        self._become(compact)

    def set_column(self, field: str, values: Tensor) -> None:
        """Replace one field of all rows; the new values stay in RAM, so it is meant for numbers, not for vectors."""
        done = 0
        for number, segment in enumerate(self.segments):
            begin = self.start if number == 0 else 0
            fresh = self._piece(number, field).clone()
            fresh[begin:] = values[done : done + segment.rows - begin]
            self.replaced[number] = {**self.replaced[number], field: fresh}  # a fork may hold the old dictionary
            done += segment.rows - begin
        self.tail.set_column(field, values[done:])

    # -- value semantics -------------------------------------------------------------------------------------------

    def fork(self) -> DiskStore:
        if self.segment_directory is not None:
            self.segment_directory.claim(self.segments)
        twin = DiskStore(
            self.segment_directory,
            self.fields,
            self.row_multiple,
            segment_rows=self.segment_rows,
            segments=self.segments,
            start=self.start,
        )
        twin.replaced = [dict(fields) for fields in self.replaced]
        twin.tail = self.tail.fork()
        return twin

    def staged(self) -> DiskStore:
        twin = self.fork()
        twin.tail = self.tail.staged()
        return twin

    def close(self) -> None:
        if self.segment_directory is not None:
            self.segment_directory.release(self.segments)
        self.segments.clear()
        self.replaced, self.start = [], 0
        self.tail.close()

    @property
    def _rows_in_segments(self) -> int:
        return sum(segment.rows for segment in self.segments) - self.start

    def _piece(self, number: int, field: str) -> Tensor:
        replaced = self.replaced[number].get(field)
        return self.segments[number].tensors(self.fields)[field] if replaced is None else replaced

    def _seal(self, segment: Segment) -> None:
        self.segments.append(segment)
        self.replaced.append({})

    def _become(self, other: DiskStore) -> None:
        """Hold what `other` holds instead; its claims are ours from now on."""
        before = list(self.segments)
        self.segments[:] = other.segments
        self.replaced, self.start, self.tail = other.replaced, other.start, other.tail
        other.segments.clear()
        if self.segment_directory is not None:
            self.segment_directory.release(before)


def storage_at(store: Storage | str | Path) -> Storage:
    """What a user's word for a storage means: "ram", or the directory that segments are to be written to.

    Raises:
        StoreError: see ``SegmentDirectory``.
    """
    if store == "ram":
        return RamStorage()
    return DiskStorage(absolute_directory(store)) if isinstance(store, (str, Path)) else store
