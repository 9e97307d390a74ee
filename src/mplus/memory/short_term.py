"""Rows of short-term memory where the model computes: a cache of the log, in slots that are filled again. Knows nothing about models.

Legend: L layers, N slots, G drop groups (L when every layer drops its own tokens, else 1), n tokens held.
A token keeps its slot for life; its place in time is its rank, kept in ``order``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.memory.rows import RowLayout, Rows


class Lineage:
    """What a pool and its later states have in common, so that buffers made for one are found for the next."""


class ShortTerm:
    """Up to N short-term tokens per layer.

    Attributes:
        rows: field tensors [L or 1, N, ...], indexed by slot.
        order: [G, n] int64, slot of every held token from oldest to newest.
        version: grows whenever tokens come or go, so that what was computed from the rows is known to be stale.
        lineage: the same for all states of one memory, another for a fork.
    """

    def __init__(self, layout: RowLayout, capacity_tokens: int, drop_groups: int) -> None:
        self.layout = layout
        self.capacity_tokens = capacity_tokens
        self.drop_groups = drop_groups
        self.rows: Rows = layout.empty(0)
        self.order = torch.empty(drop_groups, 0, dtype=torch.int64, device="cpu")
        self.version = 0
        self.lineage = Lineage()
        self._kept: Tensor | None = None  # slots of the pool this one was staged from, which must not be overwritten

    def __len__(self) -> int:
        return self.order.shape[1]

    def remove(self, ranks: Tensor) -> None:
        """Take tokens out; `ranks` [G, k] (0 = oldest held), ascending in every group."""
        keep = torch.ones_like(self.order, dtype=torch.bool).scatter_(1, ranks, False)
        self.order = self.order[keep].view(self.drop_groups, len(self) - ranks.shape[1])
        self.version += 1

    def append(self, rows: Rows) -> None:
        """Add n tokens as the newest; `rows` are fields [L or 1, n, ...]."""
        count = next(iter(rows.values())).shape[1]
        if len(self) + count > self.capacity_tokens:
            raise AssertionError(f"pool of {self.capacity_tokens} holds {len(self)}, cannot take {count} more")
        self._grow_to(self._slots_in_use + count)
        free = self._free_slots(count)
        for name, target in self.rows.items():  # a chunk may carry search keys that a pool without long-term memory does not keep
            new = rows[name]
            if free.shape[0] == 1:
                target[:, free[0].to(target.device)] = new.to(target)
            else:
                index = free.to(target.device)[(...,) + (None,) * (new.dim() - 2)].expand(-1, -1, *new.shape[2:])
                target.scatter_(1, index, new.to(target))
        self.order = torch.cat([self.order, free], 1)
        self.version += 1

    def reserve(self, tokens: int) -> None:
        """Have slots for `tokens` more tokens beside all that are held: those that will be dropped stay until the write is whole.

        Raises:
            RuntimeError, MemoryError: there is no room; nothing changed.
        """
        self._grow_to(len(self) + tokens)

    def at_slots(self, slots: Tensor, fields: tuple[str, ...] | None = None) -> Rows:
        """Rows [L or 1, k, ...] at slots [G, k]; all fields, or those named."""
        out: Rows = {}
        for name in fields or self.rows:
            held = self.rows[name]
            where = slots.to(held.device)
            if where.shape[0] == 1:
                out[name] = held[:, where[0]]
            else:
                out[name] = torch.stack([held[group, where[group]] for group in range(held.shape[0])])
        return out

    def newest(self, count: int) -> Rows:
        """Rows of the `count` newest tokens, oldest of them first."""
        return self.at_slots(self.order[:, max(0, len(self) - count) :])

    def staged(self) -> ShortTerm:
        """A copy to change next; it shares the slots and writes only into those that nothing held here uses."""
        twin = ShortTerm.__new__(ShortTerm)
        twin.layout, twin.capacity_tokens, twin.drop_groups = self.layout, self.capacity_tokens, self.drop_groups
        twin.rows, twin.order = dict(self.rows), self.order
        twin.version, twin.lineage, twin._kept = self.version, self.lineage, self.order
        return twin

    def free_kept(self) -> None:
        """Let later writes use the slots that only the pool this one was staged from needed."""
        self._kept = None

    def clone(self) -> ShortTerm:
        """A copy that shares nothing that can change."""
        twin = ShortTerm(self.layout, self.capacity_tokens, self.drop_groups)
        twin.rows = {name: value.clone() for name, value in self.rows.items()}
        twin.order = self.order.clone()
        return twin

    @property
    def _slots_in_use(self) -> int:
        """Slots of the group that uses most: what is held, and what the pool this was staged from holds."""
        return len(self) if self._kept is None else int(self._taken().sum(1).max())

    def _grow_to(self, tokens: int) -> None:
        used = next(iter(self.rows.values())).shape[1]
        if used >= tokens:
            return
        size = max(tokens, min(self.capacity_tokens, 2 * used))
        grown = self.layout.empty(size)
        for name, held in self.rows.items():
            grown[name][:, :used] = held
        self.rows = grown

    def _taken(self) -> Tensor:
        """[G, slots] whether a slot must not be written to."""
        total = next(iter(self.rows.values())).shape[1]
        taken = torch.zeros(self.drop_groups, total, dtype=torch.bool, device="cpu").scatter_(1, self.order, True)
        return taken if self._kept is None else taken.scatter_(1, self._kept, True)

    def _free_slots(self, count: int) -> Tensor:
        free = ~self._taken()  # groups may have different numbers of free slots: the first `count` of each
        first = free & (free.cumsum(1) <= count)
        return first.nonzero()[:, 1].view(self.drop_groups, count)
