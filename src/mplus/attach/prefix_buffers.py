"""Keys and values of the memory slots of one read, in the very buffers that the cache goes on to fill. Knows slots, not who stands in them.

Legend: L layers, B rows, H kv heads, S slots with the room behind the memory, E head width, n tokens.

One buffer holds all layers: rows that are the same for all layers (shared retrieval, short-term memory) are placed by one set of
operations instead of L, and rotated while they are copied. The buffers of the last read are kept, so that the next one over
the unchanged memory writes only what it found (``Shelf``).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from mplus.attach.families import Decoder, rotate_into
from mplus.memory.short_term import Lineage, ShortTerm

ROOM_STEP = 128
"""Slots behind the memory are reserved in steps, so that a slightly longer prompt still fits the buffers of the last read."""


@dataclass(frozen=True)
class Standing:
    """What of a buffer's content is worth keeping: short-term tokens in their order, all of them, from one slot on.

    Attributes:
        pool_version: state of the pool they were taken from.
        first, position: slot and position of the oldest.
        memory_format: "kv" or "hidden"; the two agree to rounding only.
    """

    pool_version: int
    first: int
    position: int
    memory_format: str


class Prefix:
    """Buffers [L, B, H, S, E] for keys and values.

    Attributes:
        slots: S.
        standing: short-term tokens that a later read may leave where they are; None where the row is mixed.
        has_bos: whether slot 0 holds BOS.
    """

    def __init__(self, decoder: Decoder, rows: int, slots: int) -> None:
        shape = (decoder.depth, rows, decoder.kv_heads, slots, decoder.head_width)
        with torch.inference_mode(False):  # they outlive the read, and the next one may run in another mode
            self.keys = torch.empty(shape, dtype=decoder.dtype, device=decoder.device)
            self.values = torch.empty_like(self.keys)
        self.slots = slots
        self.standing: Standing | None = None
        self.has_bos = False

    def place(self, layers: slice, row: int, slots: slice, keys: Tensor, values: Tensor, rotation: tuple[Tensor, Tensor]) -> None:
        """Put tokens into slots of a row.

        Args:
            layers: which of the L layers.
            keys: [l, n, H, E] before rotation; values: [l, n, H, E].
            rotation: cos and sin [n, E] of the slots' positions.
        """
        rotate_into(self.keys[layers, row, :, slots], keys.transpose(1, 2), *rotation)
        self.values[layers, row, :, slots] = values.transpose(1, 2)

    def blank(self, row: int, slots: int) -> None:
        """Zero the first `slots` of a row: nobody sees them, but what is there must be finite."""
        self.keys[:, row, :, :slots] = 0
        self.values[:, row, :, :slots] = 0

    def copy_row(self, source: int, target: int, slots: slice) -> None:
        """Let slots of one row hold what they hold in another."""
        self.keys[:, target, :, slots] = self.keys[:, source, :, slots]
        self.values[:, target, :, slots] = self.values[:, source, :, slots]


class Shelf:
    """The buffers of the last read, one prefix at most, for a read of the same memory by the same weights.

    Whoever takes them off is their only user until they are put back; a second reader finds nothing and makes its own.
    """

    def __init__(self) -> None:
        self._held: tuple[weakref.ref[Lineage], int, Prefix] | None = None

    def take(self, pool: ShortTerm, weights: int, slots: int) -> Prefix | None:
        """Buffers with at least `slots` slots last used for `pool`; whatever else is held is let go of, before new ones are made.

        Args:
            weights: version of the weights that project memory.
        """
        held, self._held = self._held, None
        if held is None or held[0]() is not pool.lineage or held[1] != weights or held[2].slots < slots:
            return None
        return held[2]

    def put(self, pool: ShortTerm, weights: int, prefix: Prefix) -> None:
        """Keep buffers for the next read of `pool`."""
        self._held = (weakref.ref(pool.lineage), weights, prefix)


def with_room(slots: int) -> int:
    """`slots`, rounded up to whole steps."""
    return -(-slots // ROOM_STEP) * ROOM_STEP
