"""Search keys along their main directions, block by block, for maxsim scores. Knows tensors; nothing of stores, models or choices.

Legend: F key width, d sketch width, W rows of a block, S blocks of a slab, m blocks sketched, T query vectors.

A key's sketch is its place along the d directions in which the keys of its slab vary most; what is left out is taken as the slab's
mean. So ``q . k`` is nearly ``q . mean + (q U) . sketch(k)``. Means of neighbouring rows, single or clustered, lose the one row of a
block that a query is after; a row's own sketch does not (docs/decisions/0020 has the measurements).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.index.first_stage import FirstStageIndex, Slab

SKETCH_WIDTH = 32


class PcaSketch(FirstStageIndex):
    """Sketches [d, W, S], float32, or [d, W r, S] where a row has r keys.

    The same place of all blocks lies together, so that the best row of each block is an element-wise maximum of W long vectors.
    """

    candidates_per_token = 32
    slab_rows = 65_536

    @property
    def size_bytes(self) -> int:
        """Bytes of all sketches, room of the open slab included."""
        tensors = [part for slab in self._held[0] for part in (*slab.fitted.values(), slab.short)]
        return sum(part.numel() * part.element_size() for part in tensors)

    def fit(self, keys_MF: Tensor) -> dict[str, Tensor]:
        mean, basis = main_directions(keys_MF.flatten(0, -2))
        return {"mean": mean, "basis": basis}

    def empty(self, fitted: dict[str, Tensor], blocks: int) -> Tensor:
        return fitted["basis"].new_zeros(fitted["basis"].shape[1], self.block * self.keys_per_row, blocks)

    def put(self, slab: Slab, first: int, keys_MF: Tensor) -> None:
        flat = (keys_MF.flatten(0, -2) - slab.fitted["mean"]) @ slab.fitted["basis"]
        width, keys, _ = slab.short.shape
        slab.short[:, :, first : first + flat.shape[0] // keys] = flat.view(-1, keys, width).permute(2, 1, 0)

    def maxsim(self, query_TF: Tensor) -> Tensor:
        """About each query's best product inside every block, [T, m] float32 on the CPU."""
        query = query_TF.float().cpu()
        out = query.new_empty(query.shape[0], len(self) // self.block)
        slabs, start = self._held
        done = 0
        for number, slab in enumerate(slabs):
            begin = start if number == 0 else 0
            rows = slab.short.transpose(0, 1)[:, :, begin : slab.used]  # [W, d, m]
            best = torch.matmul(query @ slab.fitted["basis"], rows).amax(0)
            count = slab.used - begin
            torch.add(best, (query @ slab.fitted["mean"])[:, None], out=out[:, done : done + count])
            done += count
        return out


def main_directions(keys_MF: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F] of keys, and the directions [F, d] in which they vary most."""
    mean = keys_MF.mean(0)
    centred = keys_MF - mean
    return mean, torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -SKETCH_WIDTH:].contiguous()
