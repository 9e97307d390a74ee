"""The memory tokens of one training step, by column. Knows where rows lie, not what is done with them.

Legend: L layers, S columns, D width, H kv heads, E head width, V searched layers.

Columns: first those of older memories, then the step's own rows without gradient (both stay where they are kept, perhaps off the
accelerator, and only what is read is copied), then the step's own rows with gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.memory.rows import Rows
from mplus.training.bank.memory_bank import MemoryBank


class StepTable:
    """Rows to read in one step.

    Args:
        older: the bank.
        still: own rows without gradient, fields [L or V, s, ...], or None.
        live: own rows with gradient, or None.
    """

    def __init__(self, older: MemoryBank, still: Rows | None, live: Rows | None, device: torch.device) -> None:
        self.older, self.still, self.live, self.device = older, still, live, device
        self.first_still = older.columns
        self.first_live = self.first_still + _count(still)
        self.columns = self.first_live + _count(live)

    def states(self, place: int, columns: Tensor) -> Tensor:
        """Normalised states [..., D] of rows, as the `place`-th searched layer's attention sees them, without gradient."""
        scribe = self.older.scribe
        if scribe.states:
            rows, index = self.gather(place, columns, states=True)
            return rows["states"][index]
        layer = scribe.searched[place]
        rows, index = self.gather(layer, columns)
        with torch.no_grad():
            return scribe.model.attached.decoder.normed(layer, rows["hidden"])[index]

    def gather(self, layer: int, columns: Tensor, *, states: bool = False) -> tuple[Rows, Tensor]:
        """Rows of one layer, each once, and where the asked ones stand among them.

        Args:
            layer: of the decoder; with `states` the place among those stored.
            columns: [...] columns; may repeat.

        Returns:
            fields [u, ...] on the model's device, and [...] indices into them.
        """
        wanted, place = columns.unique(return_inverse=True)
        parts: list[Rows] = []
        bank, own = wanted[wanted < self.first_still], wanted[(wanted >= self.first_still) & (wanted < self.first_live)]
        live = wanted[wanted >= self.first_live]
        if bank.numel():
            parts.append(self._of(self.older.fields, layer, bank, states))
        if own.numel():
            assert self.still is not None
            parts.append(self._of(self.still, layer, own - self.first_still, states))
        if live.numel():
            assert self.live is not None
            parts.append(self._of(self.live, layer, live - self.first_live, states))
        names = [name for name in self.older.fields if (name == "states") == states]
        empty = {name: self.older.fields[name][layer][:0].to(self.device) for name in names}
        rows = {name: torch.cat([part[name] for part in parts] or [empty[name]]) for name in names}
        return rows, place.to(self.device)

    def _of(self, fields: Rows, layer: int, index: Tensor, states: bool) -> Rows:
        return {
            name: value[layer].index_select(0, index.to(value.device)).to(self.device)
            for name, value in fields.items()
            if (name == "states") == states
        }


def _count(rows: Rows | None) -> int:
    return 0 if rows is None else next(iter(rows.values())).shape[1]
