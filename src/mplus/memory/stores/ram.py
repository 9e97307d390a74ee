"""Long-term rows in host RAM: growable slabs of one drop group. Knows nothing about models or policies.

Legend: M rows held, k rows asked for.
A row that was written never changes, so forks share all slabs; only who opened the last slab goes on filling it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mplus.memory.stores.gathering import gathered, host_empty, shares
from mplus.memory.stores.protocol import FieldSpec, bytes_per_row

FIRST_SLAB_ROWS = 256
SLAB_ROWS = 65_536
SLAB_BYTES = 64 << 20
"""Slabs double up to the smaller of both. What of a slab is not filled yet takes no RAM, unless it is pinned."""


class RamStorage:
    """Every store in this process's memory."""

    def new_store(self, fields: FieldSpec, row_multiple: int) -> RamStore:
        return RamStore(fields, row_multiple)


class RamStore:
    """Rows in slabs; appending never moves what is held.

    Args:
        row_multiple: every slab holds a multiple of so many rows, so that no block of neighbours is cut in two.
    """

    def __init__(self, fields: FieldSpec, row_multiple: int = 1) -> None:
        self.fields = dict(fields)
        self.row_multiple = row_multiple
        self._slabs: list[dict[str, Tensor]] = []
        self._used: list[int] = []  # rows of each slab
        self._fills = False  # whether this store, and not one it was forked from, goes on filling the last slab
        self._spare: list[dict[str, Tensor]] = []  # made by ``reserve``, filled next
        self._opened = 0  # slabs this store made; each is twice as large as the one before
        self._start = 0  # evicted rows at the front of the first slab

    def __len__(self) -> int:
        return sum(self._used) - self._start

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows held."""
        return bytes_per_row(self.fields) * len(self)

    def reserve(self, rows: int = 0) -> None:
        """Have slabs for `rows` more rows.

        Raises:
            RuntimeError, MemoryError: there is no room in RAM; nothing changed.
        """
        free = self._open_rows + sum(map(_rows_of, self._spare))
        while free < rows:
            self._spare.append(self._new_slab(rows - free))
            free += _rows_of(self._spare[-1])

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add rows [k, ...] at the end; where there is no room for all of them, none is added."""
        count = next(iter(rows.values())).shape[0]
        self.reserve(count)
        done = 0
        while done < count:
            if not self._open_rows:
                self._slabs.append(self._spare.pop(0))
                self._used.append(0)
                self._fills = True
            slab, used = self._slabs[-1], self._used[-1]
            append = min(count - done, self._open_rows)
            for name in self.fields:
                slab[name][used : used + append].copy_(rows[name][done : done + append])
            self._used[-1] += append
            done += append

    def gather(self, index: Tensor, fields: tuple[str, ...]) -> dict[str, Tensor]:
        found = shares(index.cpu() + self._start, self._used)
        return gathered(found, index.shape[0], self.fields, fields, lambda number, name: self._slabs[number][name])

    def parts(self, field: str) -> Iterator[Tensor]:
        for number, (slab, used) in enumerate(zip(self._slabs, self._used, strict=True)):
            begin = self._start if number == 0 else 0
            if used > begin:
                yield slab[field][begin:used]

    def column(self, field: str) -> Tensor:
        pieces = list(self.parts(field))
        if not pieces:
            shape, dtype = self.fields[field]
            return torch.empty(0, *shape, dtype=dtype)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def evict_oldest(self, count: int) -> None:
        self._start += min(count, len(self))
        while len(self._slabs) > 1 and self._start >= self._used[0]:
            self._start -= self._used[0]
            del self._slabs[0], self._used[0]

    def keep(self, mask: Tensor) -> None:
        kept = {name: self.column(name)[mask] for name in self.fields}
        self._forget_all()
        if int(mask.sum()):
            self.append(kept)

    def set_column(self, field: str, values: Tensor) -> None:
        done = 0
        for number, (slab, used) in enumerate(zip(self._slabs, self._used, strict=True)):
            begin = self._start if number == 0 else 0  # slabs may be shared with a fork: replace, never overwrite
            fresh = slab[field].clone()
            fresh[begin:used] = values[done : done + used - begin]
            self._slabs[number] = {**slab, field: fresh}
            done += used - begin

    def fork(self) -> RamStore:
        twin = RamStore(self.fields, self.row_multiple)
        twin._slabs, twin._used, twin._start = list(self._slabs), list(self._used), self._start
        return twin

    def staged(self) -> RamStore:
        twin = self.fork()
        twin._fills, twin._spare, twin._opened = self._fills, list(self._spare), self._opened
        return twin

    def close(self) -> None:
        self._forget_all()
        self._spare, self._opened = [], 0

    @property
    def _open_rows(self) -> int:
        """Rows that the last slab still takes from this store."""
        return _rows_of(self._slabs[-1]) - self._used[-1] if self._fills else 0

    def _new_slab(self, wanted: int) -> dict[str, Tensor]:
        largest = max(1, min(SLAB_ROWS, SLAB_BYTES // bytes_per_row(self.fields)))
        size = min(largest, FIRST_SLAB_ROWS << min(self._opened, 30))
        size = max(size, min(wanted, largest))
        size = -(-size // self.row_multiple) * self.row_multiple
        slab = {name: host_empty((size, *shape), dtype) for name, (shape, dtype) in self.fields.items()}
        self._opened += 1
        return slab

    def _forget_all(self) -> None:
        self._slabs, self._used, self._fills, self._start = [], [], False, 0


def _rows_of(slab: Mapping[str, Tensor]) -> int:
    return next(iter(slab.values())).shape[0]
