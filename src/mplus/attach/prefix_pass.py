"""A forward pass behind a prefix: its mask, positions, rotation, cache and hooks. Knows lengths, not what the slots hold.

Legend: B rows, T tokens of text, P prefix slots of the longest row, D width, H kv heads, E head width.

Row b of a layer is [unused | BOS | memory | text]; positions count from BOS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from mplus.attach.cache import PrefixCache, passed
from mplus.attach.families import Decoder, rotate
from mplus.attach.hooks import Hooks

Pair = tuple[Tensor, Tensor]
Fill = Callable[[int, Tensor], Pair | None]
"""Gives a layer's prefix, rotated keys and values [B, H, P, E], for the normalised states [B, T, D] that enter its attention.

None: there are no slots. Where P is followed by the pass's room, the cache goes on to fill these very tensors.
"""


class PrefixPass:
    """One forward pass, or several that follow each other on one cache.

    Args:
        lengths: prefix slots of each row, BOS first, or one number for all rows.
        text: [B, T], False at padding.
        room: tokens that will stand behind the prefix; default: T.
        storing: see ``PrefixLayer``.

    Attributes:
        prefix: P.
        bos_slot: [B or 1, 1], where BOS stands.
        mask: [B, P + T], 1 at used slots and at text.
        positions: [B, T] of the text.
    """

    def __init__(
        self, decoder: Decoder, lengths: Sequence[int], text: Tensor, *, room: int | None = None, storing: bool = True
    ) -> None:
        self.decoder, self.prefix = decoder, max(lengths)
        self.bos_slot = self.prefix - torch.tensor(lengths, device=text.device)[:, None]
        self.slots = torch.arange(self.prefix, device=text.device)[None]
        used = (self.slots >= self.bos_slot).expand(text.shape[0], -1)
        self.mask = torch.cat([used, text.bool()], 1).long()
        self.positions = positions_of(self.mask)[:, self.prefix :]
        self.cache = PrefixCache(decoder.depth, self.prefix, room=text.shape[1] if room is None else room, storing=storing)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the decoder, all but the ids."""
        return {"attention_mask": self.mask, "position_ids": self.positions, "use_cache": True, **passed(self.cache)}

    @cached_property
    def rotation(self) -> Pair:
        """cos and sin, [B or 1, P, E], of the slots."""
        return self.decoder.rotation((self.slots - self.bos_slot).clamp(min=0), self.slots)

    def rotated(self, keys: Tensor, values: Tensor) -> Pair:
        """Keys before rotation and values, [B or 1, P, H, E], as ``Fill`` gives them."""
        each = (self.mask.shape[0], -1, -1, -1)
        return rotate(keys, *self.rotation).transpose(1, 2).expand(each), values.transpose(1, 2).expand(each)

    def install(self, hooks: Hooks, fill: Fill) -> None:
        """Hook each layer, so that its part of the cache is filled before its attention; see ``Hooks.head_in_one_piece`` too."""
        hooks.head_in_one_piece(self.decoder)
        for layer in range(self.decoder.depth):
            hooks.before_attention(self.decoder, layer, partial(self._fill, fill, layer))

    def states(self, ids: Tensor) -> Tensor:
        """Last hidden states [B, T, D] of a pass whose hooks are on."""
        out: Tensor = self.decoder.body(input_ids=ids, **self.arguments).last_hidden_state
        return out

    def _fill(self, fill: Fill, layer: int, normed: Tensor) -> None:
        slot = self.cache.at(layer)
        if slot.filled and slot.storing:
            return
        empty = normed.new_empty(normed.shape[0], self.decoder.kv_heads, 0, self.decoder.head_width)
        slot.fill(*(fill(layer, normed) or (empty, empty)))


def positions_of(mask: Tensor) -> Tensor:
    """Positions of the tokens of a mask [B, S], counted from the first that is not hidden."""
    return (mask.cumsum(1) - 1).clamp(min=0)
