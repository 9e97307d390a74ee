"""A small head that tells whether a window answers the same thing as the best one, from search keys. Knows tensors, no memory.

For each token of the question it sees how well that token matches the best window and the other one, and how alike the two search keys are
that it matched: what stands at the name in both, what at the relation. A token of a look-alike's name matches nearly as well, but another key.

Legend: B prompts, t query tokens, c windows, n search keys of a window, F search width, r rank.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from mplus.retrieval.projectors import PLAIN

REACH: Final = 0.5
"""Share of the best score that a window may lack and still be judged by the head."""
_ASKED, _HIDDEN = 8, 16


class SlotHead(nn.Module):
    """Logits of "the same thing", above 0 where it is likelier than not.

    Args:
        width: F.
        rank: r, numbers that two search keys are compared by.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.compared = nn.Linear(width, rank, bias=False, **PLAIN)
        self.asked = nn.Linear(width, _ASKED, bias=False, **PLAIN)
        self.token = nn.Linear(4 + _ASKED, _HIDDEN, **PLAIN)
        self.judged = nn.Linear(2 * _HIDDEN, 1, **PLAIN)

    def forward(self, query_BtF: Tensor, weight_Bt: Tensor, keys_BcnF: Tensor, held_Bcn: Tensor, best_B: Tensor) -> Tensor:
        """Logits [B, c].

        Args:
            query_BtF, weight_Bt: from ``LateInteractionRetriever.queries``; padding has weight 0.
            keys_BcnF: search keys of each window.
            held_Bcn: False where a window has no such key.
            best_B: the window that the others are compared with.
        """
        query, weight, keys = query_BtF.float(), weight_Bt.float(), keys_BcnF.float()
        every = torch.einsum("btf,bcnf->btcn", query, keys).masked_fill(~held_Bcn[:, None], float("-inf"))
        match, at = every.max(-1)  # [B, t, c]
        row = torch.arange(len(keys), device=keys.device)
        looked = functional.normalize(self.compared(keys_BcnF.to(self.compared.weight.dtype)).float(), dim=-1)
        found = looked[row[:, None, None], torch.arange(keys.shape[1], device=keys.device), at]  # [B, t, c, r]
        alike = (found * found[row, :, best_B][:, :, None]).sum(-1)
        best = match[row, :, best_B][:, :, None]
        whole = (weight[:, :, None] * best).sum(1, keepdim=True).clamp(min=1e-6)
        asked = functional.normalize(self.asked(query_BtF.to(self.asked.weight.dtype)).float(), dim=-1)
        seen = torch.stack([match / whole, (best / whole).expand_as(match), (best - match).clamp(min=0) / whole, alike], -1)
        seen = torch.cat([seen, asked[:, :, None].expand(*match.shape, -1)], -1)
        hidden = self.token(seen.to(self.token.weight.dtype)).relu().float()
        hidden = hidden.masked_fill((weight == 0)[:, :, None, None], 0.0)
        pooled = torch.cat([(weight[:, :, None, None] * hidden).sum(1), hidden.amax(1)], -1)
        logits: Tensor = self.judged(pooled.to(self.judged.weight.dtype)).float().squeeze(-1)
        return logits
