"""Earlier turns of a conversation, read between BOS and memory. Knows positions and masks, nothing of what is found.

A reader that meets memory right before the question answers best; turns between the two cost it answers (decision 0025). So earlier turns
get the positions behind BOS, memory those behind the turns, and the question those it always had. Their slots stay where they are: only
rotation and mask of the turns' own queries differ from those of a plain prompt.

Legend: B prompts, T prompt tokens, P prefix slots, Q tokens of one pass, S keys a pass sees, E head width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mplus.attach import attention
from mplus.attach.cache import PrefixCache
from mplus.attach.families import Decoder
from mplus.attach.hooks import Hooks


def can_hide(decoder: Decoder) -> bool:
    """Tell whether the attention takes a mask per query, so that single tokens can be hidden from others."""
    return decoder.config._attn_implementation in ("sdpa", "eager", attention.NAME)


class EarlierTurns:
    """Positions and mask of turns that stand before memory.

    Args:
        earlier_BT: True at tokens of earlier turns.
        text_BT: False at padding.
        lengths: prefix slots of each prompt, BOS first.

    Attributes:
        counts: tokens of earlier turns per prompt.
    """

    def __init__(self, decoder: Decoder, earlier_BT: Tensor, text_BT: Tensor, lengths: list[int]) -> None:
        self.decoder, self.earlier = decoder, earlier_BT
        self.counts: list[int] = earlier_BT.sum(1).tolist()
        self.prefix = max(lengths)
        length = torch.tensor(lengths, device=text_BT.device)[:, None]
        later = earlier_BT.flip(1).long().cumsum(1).flip(1)  # turns from a token on: text before them makes room
        behind_memory = length + (text_BT.long().cumsum(1) - 1).clamp(min=0) + later
        self.positions = torch.where(earlier_BT, earlier_BT.long().cumsum(1), behind_memory)
        slots = torch.arange(self.prefix, device=text_BT.device)[None]
        self.hidden = torch.cat([slots != self.prefix - length, ~earlier_BT], 1)  # [B, P + T] all but BOS and the turns
        self._masked: tuple[Tensor, Tensor] | None = None
        self._rotated: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def install(self, hooks: Hooks, cache: PrefixCache) -> None:
        """Hook every layer of a pass over this cache."""
        for layer in range(self.decoder.depth):
            hooks.around_layer(self.decoder, layer, partial(self._act, cache, layer))

    def _act(self, cache: PrefixCache, layer: int, hidden: Tensor, others: dict[str, Any]) -> Tensor | None:
        slot = cache.at(layer)
        first = slot.used - slot.prefix
        here = self.earlier[:, first : first + hidden.shape[1]]
        if not here.shape[1] or not bool(here.any()):
            return None
        repeat = hidden.shape[0] // self.earlier.shape[0]  # beams and several samples of one prompt
        others["position_embeddings"] = self._rotation(first, hidden.shape[1], repeat, others["position_embeddings"])
        others["attention_mask"] = self._mask(others["attention_mask"], here, repeat)
        return hidden

    def _rotation(self, first: int, tokens: int, repeat: int, usual: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """cos and sin [B, Q, E] of the tokens of a pass; those behind the prompt have their usual ones."""
        key = (first, tokens, repeat)
        if key not in self._rotated:
            positions = self.positions[:, first : first + tokens].repeat_interleave(repeat, 0)
            own = self.decoder.rotation(positions, usual[0])
            known = positions.shape[1]
            cos, sin = (
                torch.cat([new, old.expand(new.shape[0], -1, -1)[:, known:]], 1) for new, old in zip(own, usual, strict=True)
            )
            self._rotated = {key: (cos, sin)}
        return self._rotated[key]

    def _mask(self, mask: Tensor, here_BQ: Tensor, repeat: int) -> Tensor:
        """The mask [B, 1, Q, S] of a pass, memory hidden from earlier turns; made once for all layers."""
        if self._masked is None or self._masked[0] is not mask:
            queries, keys = mask.shape[-2:]
            block = torch.zeros(here_BQ.shape[0], queries, keys, dtype=torch.bool, device=mask.device)
            seen = min(keys, self.hidden.shape[1])
            block[:, : here_BQ.shape[1], :seen] = here_BQ[:, :, None] & self.hidden[:, None, :seen]
            nothing = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
            self._masked = mask, mask.masked_fill(block.repeat_interleave(repeat, 0)[:, None], nothing)
        return self._masked[1]
