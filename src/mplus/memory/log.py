"""The row log: rows of all memory tokens in the order of writing, in immutable pieces of RAM or of disk. Knows no placement, no source.

Legend: k rows, L layers.
A row has a number for life, in the order of writing. Nothing that was written is overwritten, so logs share pieces: a fork shares all of
them, a log that forgot something holds extents of what it kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from mplus.memory.stores.disk import DiskStorage, segment_rows
from mplus.memory.stores.fields import FieldSpec, bytes_per_row
from mplus.memory.stores.gathering import gathered, host_empty, shares
from mplus.memory.stores.segments import Segment

FIRST_SLAB_ROWS, SLAB_ROWS = 256, 65_536
SLAB_BYTES = 64 << 20
"""Slabs double up to the smaller of both. What of a slab is not filled yet takes no RAM, unless it is pinned."""


@dataclass(eq=False)
class Slab:
    """Room for rows in RAM, filled from the front.

    Attributes:
        tensors: fields [capacity, ...].
        taken: rows that some log has filled.
        end: one key, the first row that is free. Who pops it has taken it: one step, in every thread, which an interrupt cannot cut in
            two as it can a lock (at worst nobody goes on filling this slab).
        stored: runs of rows that lie in a file too: (first row, rows, the segment, its first row there).
    """

    tensors: dict[str, Tensor]
    taken: int = 0
    stored: list[tuple[int, int, Segment, int]] = field(default_factory=list)
    end: dict[int, None] = field(default_factory=lambda: {0: None})

    @property
    def capacity(self) -> int:
        """Rows it has room for."""
        return next(iter(self.tensors.values())).shape[0]

    def note_stored(self, first: int, rows: int, segment: Segment, at: int) -> None:
        """Remember that rows lie at `at` of a segment too, in place of the ones that these rows were in."""
        others = [run for run in self.stored if not first <= run[0] <= run[0] + run[1] <= first + rows]
        self.stored = [*others, (first, rows, segment, at)]

    def take(self, at: int, count: int) -> bool:
        """Take `count` rows from `at` on; False where another log has filled them, or there is no room."""
        if at + count > self.capacity or self.end.pop(at, self) is self:
            return False
        self.taken = at + count
        self.end[self.taken] = None
        return True


class Extent(NamedTuple):
    """Consecutive rows of one piece.

    Attributes:
        row: number of the first row in the log.
        first: its place in the piece.
    """

    piece: Slab | Segment
    first: int
    rows: int
    row: int

    @property
    def stop(self) -> int:
        """Number behind the last row."""
        return self.row + self.rows

    def cut(self, begin: int, end: int) -> Extent:
        """The part with the numbers from `begin` to before `end`."""
        begin, end = max(begin, self.row), min(end, self.stop)
        return Extent(self.piece, self.first + begin - self.row, end - begin, begin)

    def part(self, fields: FieldSpec, name: str) -> Tensor:
        """One field of its rows, not copied."""
        held = self.piece.tensors if isinstance(self.piece, Slab) else self.piece.tensors(fields)
        return held[name][self.first : self.first + self.rows]


@dataclass(frozen=True)
class RowLog:
    """Rows by number; a change gives a new log that shares all pieces.

    Attributes:
        fields: what a row is made of; fields of all layers have them first.
        extents: where the rows lie, by ascending number; numbers between them are of rows that are gone.
        end: number of the next row.
        storage: directory for rows that outgrow RAM; None keeps all new ones in RAM.
        open: the slab that is filled next, and how many rows of it this log has.
        spare: slabs made ahead by ``reserved``.
        opened: slabs made; each is twice as large as the one before.
    """

    fields: FieldSpec
    extents: tuple[Extent, ...] = ()
    end: int = 0
    storage: DiskStorage | None = None
    open: tuple[Slab, int] | None = None
    spare: tuple[Slab, ...] = ()
    opened: int = 0

    def __len__(self) -> int:
        return self._bounds[-1]

    @property
    def start(self) -> int:
        """Number of the first row that is held, ``end`` where there is none."""
        return self.extents[0].row if self.extents else self.end

    @property
    def bytes_per_row(self) -> int:
        """Bytes of one row over all fields and layers."""
        return bytes_per_row(self.fields)

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows, wherever they lie."""
        return len(self) * self.bytes_per_row

    @property
    def segment_rows(self) -> int:
        """Rows of a segment, about."""
        return segment_rows(self.fields) if self.storage is None else self.storage.rows_of_segment(self.fields)

    # -- adding ----------------------------------------------------------------------------------------------------

    def reserved(self, rows: int) -> RowLog:
        """This log with RAM for `rows` more rows in one piece, full slabs written to the directory first.

        Raises:
            StoreError: there is no room on disk; nothing changed.
            RuntimeError, MemoryError: there is no room in RAM; nothing changed.
        """
        if self._fits(rows):
            return self
        log = self.flushed()
        slab = log._new_slab(rows)
        return replace(log, spare=(slab,), opened=log.opened + 1)

    def appended(self, rows: Mapping[str, Tensor]) -> tuple[RowLog, Extent]:
        """This log with rows [k, ...] behind its last one, and where they lie."""
        count = next(iter(rows.values())).shape[0]
        log = self.reserved(count)
        slab, at = log._next_slab(count)
        if not slab.take(at, count):  # a fork was faster
            slab, at = log._new_slab(count), 0
            slab.take(0, count)
        for name in self.fields:
            slab.tensors[name][at : at + count].copy_(rows[name])
        log = replace(log, open=(slab, at + count), spare=tuple(one for one in log.spare if one is not slab))
        return log.linked(Extent(slab, at, count, log.end))

    def linked(self, extent: Extent) -> tuple[RowLog, Extent]:
        """This log with rows that lie somewhere already behind its last one."""
        extent = extent._replace(row=self.end)
        return replace(self, extents=joined([*self.extents[-1:], extent], before=self.extents[:-1]), end=extent.stop), extent

    def with_gap_to(self, end: int) -> RowLog:
        """This log with numbers up to `end` of rows that it does not hold."""
        return replace(self, end=max(self.end, end))

    # -- reading ---------------------------------------------------------------------------------------------------

    def gather(self, rows: Tensor, names: tuple[str, ...], *, layer: int | None = None) -> dict[str, Tensor]:
        """Fields [k, ...] of rows by number [k], on the CPU.

        Args:
            layer: of fields that hold all layers, only this one.
        """
        found = shares(self._ranks(rows.cpu()), [extent.rows for extent in self.extents])
        for share in found:
            extent = self.extents[share.piece]
            if isinstance(extent.piece, Segment) and layer is None:
                extent.piece.announce(share.places + extent.first, self.fields, names)
        wanted = {name: (self.fields[name][0][0 if layer is None else 1 :], self.fields[name][1]) for name in names}

        def part(number: int, name: str) -> Tensor:
            value = self.extents[number].part(self.fields, name)
            return value if layer is None else value[:, layer]

        return gathered(found, rows.shape[0], wanted, names, part)

    def holds(self, rows: Tensor) -> Tensor:
        """[k] whether a row is held."""
        if not self.extents:
            return torch.zeros(rows.shape[0], dtype=torch.bool, device="cpu")
        number = (torch.searchsorted(self._starts, rows, right=True) - 1).clamp(min=0)
        stops = torch.tensor([extent.stop for extent in self.extents], device="cpu")
        return (rows >= self._starts[number]) & (rows < stops[number])

    def extent_of(self, row: int, rows: int) -> Extent | None:
        """Where consecutive rows lie, if in one piece and held."""
        for extent in self.extents_of(row, rows):
            return extent if extent.rows == rows else None
        return None

    def extents_of(self, row: int, rows: int) -> Iterator[Extent]:
        """Where consecutive rows lie, as far as they are held."""
        if not self.extents or rows < 1:
            return
        number = max(0, int(torch.searchsorted(self._starts, row, right=True)) - 1)
        for extent in self.extents[number:]:
            if extent.row >= row + rows:
                return
            if extent.stop > row:
                yield extent.cut(row, row + rows)

    # -- letting go ------------------------------------------------------------------------------------------------

    def trimmed(self, row: int) -> RowLog:
        """This log without the rows before a number."""
        if row <= self.start:
            return self
        return replace(self, extents=tuple(extent.cut(row, extent.stop) for extent in self.extents if extent.stop > row))

    def without(self, gone: Iterable[tuple[int, int]]) -> RowLog:
        """This log without the rows of (number, rows) each; the others keep their numbers."""
        extents = list(self.extents)
        for row, rows in gone:
            cut = [(extent.cut(0, row), extent.cut(row + rows, extent.stop)) for extent in extents]
            extents = [part for pair in cut for part in pair if part.rows > 0]
        return replace(self, extents=tuple(extents))

    def empty(self) -> RowLog:
        """A log of the same kind without rows, which goes on filling the open slab."""
        return replace(self, extents=(), end=0)

    def compacted(self) -> RowLog:
        """This log with its rows in RAM copied out of slabs that hold rows of nobody here."""
        live: dict[int, int] = {}
        for extent in self.extents:
            live[id(extent.piece)] = live.get(id(extent.piece), 0) + extent.rows
        log, out = replace(self, open=None, spare=(), extents=(), storage=None), list[Extent]()
        for extent in self.extents:
            if isinstance(extent.piece, Segment) or live[id(extent.piece)] == extent.piece.taken:
                out.append(extent)
                continue
            log, moved = log.appended({name: extent.part(self.fields, name) for name in self.fields})
            out.append(moved._replace(row=extent.row))
        return replace(log, extents=joined(out), end=self.end, storage=self.storage)

    # -- files -----------------------------------------------------------------------------------------------------

    def flushed(self) -> RowLog:
        """This log with what lies in RAM written to its directory, where it has one and they fill a segment.

        Raises:
            StoreError: the directory cannot take them; they stay in RAM.
        """
        in_ram = [extent for extent in self.extents if isinstance(extent.piece, Slab)]
        if self.storage is None or sum(extent.rows for extent in in_ram) < self.segment_rows:
            return self
        segment = self.storage.segment_directory.write(self.columns_of(in_ram), self.fields)
        return replace(self.moved(in_ram, segment), open=None, spare=())

    def columns_of(self, extents: Sequence[Extent]) -> dict[str, Tensor]:
        """All fields of some extents, one behind the other."""
        return {name: torch.cat([extent.part(self.fields, name) for extent in extents]) for name in self.fields}

    def moved(self, extents: Sequence[Extent], segment: Segment) -> RowLog:
        """This log with extents that were written to a segment, one behind the other, read from there."""
        places, at = dict[Extent, Extent](), 0
        for extent in extents:
            places[extent] = Extent(segment, at, extent.rows, extent.row)
            at += extent.rows
        return replace(self, extents=joined(places.get(extent, extent) for extent in self.extents))

    def mapped(self, change: Callable[[Extent], Extent]) -> RowLog:
        """This log with every extent replaced."""
        return replace(self, extents=joined(map(change, self.extents)))

    # -- inside ----------------------------------------------------------------------------------------------------

    @cached_property
    def _starts(self) -> Tensor:
        return torch.tensor([extent.row for extent in self.extents], dtype=torch.int64, device="cpu")

    @cached_property
    def _bounds(self) -> list[int]:
        """Rows before each extent, and all of them."""
        bounds = [0]
        for extent in self.extents:
            bounds.append(bounds[-1] + extent.rows)
        return bounds

    def _ranks(self, rows: Tensor) -> Tensor:
        """Places of rows by number [k] among those that are held."""
        if not rows.numel():
            return rows
        if not bool(self.holds(rows).all()):
            raise IndexError(f"row {int(rows[~self.holds(rows)][0])} was asked for, which the log does not hold")
        number = torch.searchsorted(self._starts, rows, right=True) - 1
        before = torch.tensor(self._bounds[:-1], dtype=torch.int64, device="cpu")
        return before[number] + rows - self._starts[number]

    def _fits(self, rows: int) -> bool:
        free = self.open is not None and self.open[0].taken == self.open[1] and self.open[0].capacity - self.open[1] >= rows
        return free or any(slab.taken == 0 and slab.capacity >= rows for slab in self.spare)

    def _next_slab(self, rows: int) -> tuple[Slab, int]:
        if self.open is not None and self.open[0].taken == self.open[1] and self.open[0].capacity - self.open[1] >= rows:
            return self.open
        return next(slab for slab in self.spare if slab.taken == 0 and slab.capacity >= rows), 0

    def _new_slab(self, wanted: int) -> Slab:
        largest = max(1, min(SLAB_ROWS, SLAB_BYTES // bytes_per_row(self.fields)))
        if self.storage is not None:
            largest = self.segment_rows
        size = max(min(largest, FIRST_SLAB_ROWS << min(self.opened, 30)), wanted)
        return Slab({name: host_empty((size, *shape), dtype) for name, (shape, dtype) in self.fields.items()})


def joined(extents: Iterable[Extent], before: tuple[Extent, ...] = ()) -> tuple[Extent, ...]:
    """Extents with those made one that lie behind each other in their piece and by number, behind those `before`."""
    out: list[Extent] = []
    for extent in extents:
        last = out[-1] if out else None
        if last and last.piece is extent.piece and last.first + last.rows == extent.first and last.stop == extent.row:
            out[-1] = last._replace(rows=last.rows + extent.rows)
        elif extent.rows:
            out.append(extent)
    return (*before, *out)
