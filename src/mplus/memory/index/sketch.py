"""Short forms of search keys, block by block, for the shared vote. Knows tensors; nothing of stores, models or choices.

Legend: F key width, d sketch width, W rows of a block, S blocks of a slab, m blocks sketched, T query vectors.

A key's sketch is its place along the d directions in which the keys of its slab vary most; what is left out is taken as the slab's
mean. So ``q . k`` is nearly ``q . mean + (q U) . sketch(k)``. Means of neighbouring rows, single or clustered, lose the one row of a
block that a query is after; a row's own sketch does not (docs/decisions/0020 has the measurements).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

SKETCH_WIDTH = 32
SLAB_ROWS = 65_536


@dataclass(frozen=True)
class _Slab:
    """Sketches of up to S neighbouring blocks.

    Attributes:
        mean: [F]; basis: [F, d].
        rows: [d, W, S] float32: the same place of all blocks lies together, so that the best row of each block is an element-wise
            maximum of W long vectors.
        used: blocks filled.
    """

    mean: Tensor
    basis: Tensor
    rows: Tensor
    used: int


class BlockSketch:
    """Sketches of all rows but the newest, oldest first. Rows come in groups; the oldest are forgotten in whole blocks.

    Args:
        block: W.
    """

    group_rows = 4096
    """About so many rows are summarised together, rounded to whole blocks."""

    def __init__(self, block: int, *, group_rows: int | None = None) -> None:
        self.block = block
        self.group_rows = -(-(group_rows or type(self).group_rows) // block) * block
        self._slabs: list[_Slab] = []
        self._start = 0  # forgotten blocks of the first slab

    def __len__(self) -> int:
        """Rows sketched and held."""
        return (sum(slab.used for slab in self._slabs) - self._start) * self.block

    @property
    def size_bytes(self) -> int:
        """Bytes of all sketches, room of the open slab included."""
        tensors = [part for slab in self._slabs for part in (slab.mean, slab.basis, slab.rows)]
        return sum(part.numel() * part.element_size() for part in tensors)

    def add(self, keys_MF: Tensor) -> None:
        """Sketch one group of rows [group_rows, F], the newest."""
        keys = keys_MF.float()
        blocks = keys.shape[0] // self.block
        if not self._slabs or self._slabs[-1].used + blocks > self._slabs[-1].rows.shape[2]:
            self._slabs.append(self._opened(keys))
        slab = self._slabs[-1]
        flat = (keys - slab.mean) @ slab.basis
        slab.rows[:, :, slab.used : slab.used + blocks] = flat.view(blocks, self.block, -1).permute(2, 1, 0)
        self._slabs[-1] = replace(slab, used=slab.used + blocks)

    def forget(self, rows: int) -> None:
        """Let go of the oldest rows, in O(rows)."""
        if rows >= len(self):
            self._slabs, self._start = [], 0
            return
        self._start += rows // self.block
        while self._start >= self._slabs[0].used:
            self._start -= self._slabs[0].used
            del self._slabs[0]

    def staged(self) -> BlockSketch:
        """A copy to change next; it goes on filling the open slab, so only one of the two is used afterwards."""
        twin = BlockSketch(self.block, group_rows=self.group_rows)
        twin._slabs, twin._start = list(self._slabs), self._start
        return twin

    def fork(self) -> BlockSketch:
        """A copy that shares nothing that can change: full slabs are shared, the open one is copied."""
        twin = BlockSketch(self.block, group_rows=self.group_rows)
        twin._slabs, twin._start = list(self._slabs), self._start
        if twin._slabs:
            twin._slabs[-1] = replace(twin._slabs[-1], rows=twin._slabs[-1].rows.clone())
        return twin

    def matches(self, query_TF: Tensor) -> Tensor:
        """About each query's best product inside every block, [T, m] float32 on the CPU."""
        query = query_TF.float().cpu()
        out = torch.empty(query.shape[0], len(self) // self.block)
        done = 0
        for number, slab in enumerate(self._slabs):
            begin = self._start if number == 0 else 0
            rows = slab.rows.transpose(0, 1)[:, :, begin : slab.used]  # [W, d, m]
            best = torch.matmul(query @ slab.basis, rows).amax(0)
            count = slab.used - begin
            torch.add(best, (query @ slab.mean)[:, None], out=out[:, done : done + count])
            done += count
        return out

    def _opened(self, keys: Tensor) -> _Slab:
        """An empty slab with the main directions of its first rows."""
        mean = keys.mean(0)
        centred = keys - mean
        basis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -SKETCH_WIDTH:].contiguous()
        room = max(SLAB_ROWS, keys.shape[0]) // keys.shape[0] * (keys.shape[0] // self.block)  # whole groups
        return _Slab(mean, basis, torch.zeros(basis.shape[1], self.block, room), 0)
