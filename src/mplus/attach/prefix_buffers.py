"""Key/value buffers of the slots before a prompt, reused between reads of an unchanged memory. Knows slots, not what fills them.

Legend: L layers, B rows, H kv heads, S slots with the room behind the memory, E head width, n tokens.

One buffer holds all layers: rows that are the same for all layers (shared retrieval, short-term memory) are placed by one set of
operations instead of L, and rotated while they are copied. The cache goes on to fill the same buffers. Those of the last read are kept,
so that the next one over the unchanged memory writes only what it retrieved (``PrefixCachePool``).
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
class PrefixKey:
    """Cache key of the short-term tokens in a buffer: all of them, in their order, from one slot on.

    Attributes:
        short_term_version: state of the short-term memory they were taken from.
        first, position: slot and position of the oldest.
        memory_format: "kv" or "hidden"; the two agree to rounding only.
    """

    short_term_version: int
    first: int
    position: int
    memory_format: str


class PrefixBuffers:
    """Buffers [L, B, H, S, E] for keys and values.

    Attributes:
        slots: S.
        key: of the short-term tokens that a later read may leave where they are; None where the row is mixed.
        has_bos: whether slot 0 holds BOS.
    """

    def __init__(self, decoder: Decoder, rows: int, slots: int) -> None:
        shape = (decoder.depth, rows, decoder.kv_heads, slots, decoder.head_width)
        with torch.inference_mode(False):  # they outlive the read, and the next one may run in another mode
            self.keys = torch.empty(shape, dtype=decoder.dtype, device=decoder.device)
            self.values = torch.empty_like(self.keys)
        self.slots = slots
        self.key: PrefixKey | None = None
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
        """Copy slots of one row to another."""
        self.keys[:, target, :, slots] = self.keys[:, source, :, slots]
        self.values[:, target, :, slots] = self.values[:, source, :, slots]


class PrefixCachePool:
    """The buffers of the last read, one set at most, for a read of the same memory by the same weights.

    The reader that takes them is their only user until it puts them back; a second one gets none and makes its own.
    """

    def __init__(self) -> None:
        self._held: tuple[weakref.ref[Lineage], int, PrefixBuffers] | None = None

    def take(self, short_term: ShortTerm, weights: int, slots: int) -> PrefixBuffers | None:
        """Buffers with at least `slots` slots last used for `short_term`; any others are let go of, before new ones are made.

        Args:
            weights: version of the weights that project memory.
        """
        held, self._held = self._held, None
        if held is None or held[0]() is not short_term.lineage or held[1] != weights or held[2].slots < slots:
            return None
        return held[2]

    def put(self, short_term: ShortTerm, weights: int, buffers: PrefixBuffers) -> None:
        """Keep buffers for the next read of `short_term`."""
        self._held = (weakref.ref(short_term.lineage), weights, buffers)


def with_room(slots: int) -> int:
    """`slots`, rounded up to whole steps."""
    return -(-slots // ROOM_STEP) * ROOM_STEP
