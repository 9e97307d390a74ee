"""Short forms of search keys, block by block, for the shared vote. Knows tensors; nothing of stores, models or choices.

Legend: F key width, d sketch width, W rows of a block, S blocks of a slab, m blocks sketched, T query vectors.

A key's sketch is its place along the d directions in which the keys of its slab vary most; what is left out is taken as the slab's
mean. So ``q . k`` is nearly ``q . mean + (q U) . sketch(k)``. Means of neighbouring rows, single or clustered, lose the one row of a
block that a query is after; a row's own sketch does not (docs/decisions/0020 has the measurements).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mplus.memory.index.pieces import dealt
from mplus.memory.index.summaries import check_state

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

    def put(self, first: int, keys: Tensor) -> None:
        """Sketch keys [n * W, F], float32, into blocks from `first` on."""
        flat = (keys - self.mean) @ self.basis
        width, block, _ = self.rows.shape
        self.rows[:, :, first : first + keys.shape[0] // block] = flat.view(-1, block, width).permute(2, 1, 0)


class BlockSketch:
    """Sketches of all rows but the newest, oldest first. Rows come in groups; the oldest are forgotten in whole blocks.

    Args:
        block: W.
    """

    exact_below = 65_536
    """Rows below which every one is scored and there is nothing to summarise."""
    candidates_per_token = 32
    """Rows scored exactly for each one that is read (times K0 in all)."""
    group_rows = 4096
    """About so many rows are summarised together, rounded to whole blocks."""

    def __init__(self, block: int, *, group_rows: int | None = None) -> None:
        self.block = block
        self.group_rows = -(-(group_rows or type(self).group_rows) // block) * block
        self._held: tuple[list[_Slab], int] = [], 0  # and forgotten blocks of the first slab

    @property
    def _slabs(self) -> list[_Slab]:
        return self._held[0]

    @property
    def _start(self) -> int:
        return self._held[1]

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
            self._slabs.append(self._opened(*main_directions(keys)))
        slab = self._slabs[-1]
        slab.put(slab.used, keys)
        self._slabs[-1] = replace(slab, used=slab.used + blocks)

    def state(self) -> dict[str, Tensor]:
        """See ``Summaries``: directions, mean and filled blocks per slab, and how many blocks of the first are forgotten."""
        slabs, start = self._held
        if not slabs:
            return {}
        used = torch.tensor([start, *(slab.used for slab in slabs)], dtype=torch.int64, device="cpu")
        return {
            "used": used,
            "mean": torch.stack([slab.mean for slab in slabs]),
            "basis": torch.stack([slab.basis for slab in slabs]),
        }

    def check(self, state: dict[str, Tensor], rows: int, width: int) -> None:
        """Raise ``ValueError`` where a state cannot be of `rows` rows of `width` numbers."""
        check_state(state, rows // self.block, {"mean": (width,), "basis": (width, min(width, SKETCH_WIDTH))})

    def restore(self, state: dict[str, Tensor], parts: Iterable[Tensor]) -> None:
        """See ``Summaries``."""
        start, *used = state["used"].tolist()
        parameters = zip(state["mean"], state["basis"], used, strict=True)
        slabs = [replace(self._opened(mean, basis), used=count) for mean, basis, count in parameters]
        begins = [start, *[0] * (len(slabs) - 1)]
        counts = [(slab.used - begin) * self.block for slab, begin in zip(slabs, begins, strict=True)]
        for number, had, keys in dealt(parts, counts):  # pieces hold whole blocks
            slabs[number].put(begins[number] + had // self.block, keys.float())
        self._held = slabs, start

    def forget(self, rows: int) -> None:
        """Let go of the oldest rows, in O(rows)."""
        if rows >= len(self):
            self._held = [], 0
            return
        slabs, start = self._held
        start += rows // self.block
        gone = 0
        while start >= slabs[gone].used:
            start -= slabs[gone].used
            gone += 1
        self._held = slabs[gone:], start

    def staged(self) -> BlockSketch:
        """A copy to change next; it goes on filling the open slab, so only one of the two is used afterwards."""
        twin = BlockSketch(self.block, group_rows=self.group_rows)
        twin._held = list(self._slabs), self._start
        return twin

    def fork(self) -> BlockSketch:
        """A copy that shares nothing that can change: full slabs are shared, the open one is copied."""
        twin = BlockSketch(self.block, group_rows=self.group_rows)
        slabs = list(self._slabs)
        if slabs:
            slabs[-1] = replace(slabs[-1], rows=slabs[-1].rows.clone())
        twin._held = slabs, self._start
        return twin

    def matches(self, query_TF: Tensor) -> Tensor:
        """About each query's best product inside every block, [T, m] float32 on the CPU."""
        query = query_TF.float().cpu()
        out = query.new_empty(query.shape[0], len(self) // self.block)
        done = 0
        for number, slab in enumerate(self._slabs):
            begin = self._start if number == 0 else 0
            rows = slab.rows.transpose(0, 1)[:, :, begin : slab.used]  # [W, d, m]
            best = torch.matmul(query @ slab.basis, rows).amax(0)
            count = slab.used - begin
            torch.add(best, (query @ slab.mean)[:, None], out=out[:, done : done + count])
            done += count
        return out

    def _opened(self, mean: Tensor, basis: Tensor) -> _Slab:
        room = max(SLAB_ROWS, self.group_rows) // self.group_rows * (self.group_rows // self.block)  # whole groups
        return _Slab(mean, basis, basis.new_zeros(basis.shape[1], self.block, room), 0)


def main_directions(keys_MF: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] of keys, and the directions [F, d] in which they vary most."""
    mean = keys_MF.mean(0)
    centred = keys_MF - mean
    return mean, torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -SKETCH_WIDTH:].contiguous()
