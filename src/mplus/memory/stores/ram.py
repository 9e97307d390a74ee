"""Long-term rows in host RAM: growable slabs of one drop group. Knows nothing about models or policies.

Legend: M rows held, k rows asked for.
A full slab never changes again, so forks share it; only the open last slab is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mplus.memory.stores.host import host_empty
from mplus.memory.stores.protocol import FieldSpec, bytes_per_row

FIRST_SLAB_ROWS = 256
SLAB_ROWS = 4096


class RamStorage:
    """Every store in this process's memory."""

    def new_store(self, fields: FieldSpec, row_multiple: int) -> RamStore:
        return RamStore(fields, row_multiple)


class RamStore:
    """Rows in slabs of about 4096 at most; appending never moves what is held.

    Args:
        row_multiple: every slab holds a multiple of so many rows, so that no block of neighbours is cut in two.
    """

    def __init__(self, fields: FieldSpec, row_multiple: int = 1) -> None:
        self.fields = dict(fields)
        self.row_multiple = row_multiple
        self._slabs: list[dict[str, Tensor]] = []
        self._spare: list[dict[str, Tensor]] = []  # made by ``settle``, filled next
        self._held = 0
        self._open_used = 0  # rows used in the last slab
        self._start = 0  # evicted rows at the front of the first slab

    def __len__(self) -> int:
        return self._held

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows held."""
        return bytes_per_row(self.fields) * len(self)

    def settle(self, rows: int = 0) -> None:
        """Have slabs for `rows` more rows.

        Raises:
            RuntimeError, MemoryError: there is no room in RAM; nothing changed.
        """
        free = sum(map(self._rows_of, [*self._slabs[-1:], *self._spare])) - self._open_used
        while free < rows:
            self._spare.append(self._new_slab(rows - free))
            free += self._rows_of(self._spare[-1])

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add rows [k, ...] at the end; where there is no room for all of them, none is added."""
        count = next(iter(rows.values())).shape[0]
        self.settle(count)
        done = 0
        while done < count:
            if not self._slabs or self._open_used == self._rows_of(self._slabs[-1]):
                self._slabs.append(self._spare.pop(0))
                self._open_used = 0
            slab = self._slabs[-1]
            take = min(count - done, self._rows_of(slab) - self._open_used)
            for name in self.fields:
                slab[name][self._open_used : self._open_used + take].copy_(rows[name][done : done + take])
            self._open_used += take
            self._held += take
            done += take

    def gather(self, index: Tensor, fields: tuple[str, ...]) -> dict[str, Tensor]:
        index = index.cpu() + self._start
        bounds = torch.tensor([0] + [self._rows_of(slab) for slab in self._slabs]).cumsum(0)
        which = torch.bucketize(index, bounds[1:], right=True)
        out = {}
        for name in fields:
            shape, dtype = self.fields[name]
            got = host_empty((index.shape[0], *shape), dtype)
            for number in which.unique().tolist():
                here = which == number
                got[here] = self._slabs[number][name][index[here] - bounds[number]]
            out[name] = got
        return out

    def parts(self, field: str) -> Iterator[Tensor]:
        last = len(self._slabs) - 1
        for number, slab in enumerate(self._slabs):
            begin = self._start if number == 0 else 0
            end = self._open_used if number == last else self._rows_of(slab)
            if end > begin:
                yield slab[field][begin:end]

    def column(self, field: str) -> Tensor:
        pieces = list(self.parts(field))
        if not pieces:
            shape, dtype = self.fields[field]
            return torch.empty(0, *shape, dtype=dtype)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def evict_oldest(self, count: int) -> None:
        gone = min(count, self._held)
        self._start += gone
        self._held -= gone
        while len(self._slabs) > 1 and self._start >= self._rows_of(self._slabs[0]):
            self._start -= self._rows_of(self._slabs[0])
            del self._slabs[0]

    def keep(self, mask: Tensor) -> None:
        kept = {name: self.column(name)[mask] for name in self.fields}
        self._slabs, self._open_used, self._start, self._held = [], 0, 0, 0
        if int(mask.sum()):
            self.append(kept)

    def set_column(self, field: str, values: Tensor) -> None:
        done = 0
        for number, slab in enumerate(self._slabs):  # slabs may be shared with a fork: replace, never overwrite
            begin = self._start if number == 0 else 0
            end = self._open_used if number == len(self._slabs) - 1 else self._rows_of(slab)
            fresh = slab[field].clone()
            fresh[begin:end] = values[done : done + end - begin]
            self._slabs[number] = {**slab, field: fresh}
            done += end - begin

    def fork(self) -> RamStore:
        twin = RamStore(self.fields, self.row_multiple)
        twin._slabs = [dict(slab) for slab in self._slabs]
        if self._slabs:
            open_slab = self._slabs[-1].items()
            twin._slabs[-1] = {name: host_empty(tuple(value.shape), value.dtype).copy_(value) for name, value in open_slab}
        twin._open_used, twin._start, twin._held = self._open_used, self._start, self._held
        return twin

    def close(self) -> None:
        self._slabs, self._spare, self._open_used, self._start, self._held = [], [], 0, 0, 0

    def _new_slab(self, wanted: int) -> dict[str, Tensor]:
        last = [*self._slabs, *self._spare][-1:]
        size = min(SLAB_ROWS, 2 * self._rows_of(last[0])) if last else FIRST_SLAB_ROWS
        size = max(size, min(wanted, SLAB_ROWS))
        size = -(-size // self.row_multiple) * self.row_multiple
        return {name: host_empty((size, *shape), dtype) for name, (shape, dtype) in self.fields.items()}

    @staticmethod
    def _rows_of(slab: Mapping[str, Tensor]) -> int:
        return next(iter(slab.values())).shape[0]
