"""What a same-slot head learns on a bank: windows of one changed thing are the same, the hardest others are not. Knows scores and keys.

The search is not touched: queries, keys and scores come in without gradient. Hard others are what the search scores highest: the same
subject with another relation, the same relation of another subject.

Legend: R questions, t tokens of a prompt, m windows, M memory tokens, F search width, c windows judged, n keys of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mplus.retrieval.slot_head import SlotHead

MOST_SAME, MOST_OTHERS = 8, 12  # windows of a question
_NEVER: Final = float("-inf")


@dataclass(frozen=True)
class Judged:
    """Windows [R, c] of which the first is the best right one; those beside it that are of its thing, and those that are not."""

    windows: Tensor
    same: Tensor
    other: Tensor


def judged_windows(scores: Tensor, right: Tensor, known: Tensor) -> Judged:
    """The best right windows and the best wrong ones of each question.

    Args:
        scores, right, known: [R, m] as for ``contrastive_loss``.
    """
    scores = scores.detach().float()
    mine = scores.masked_fill(~right, _NEVER).topk(min(MOST_SAME, scores.shape[1]), dim=1)
    others = scores.masked_fill(right | ~known, _NEVER).topk(min(MOST_OTHERS, scores.shape[1]), dim=1)
    same = mine.values > _NEVER
    same[:, 0] = False  # what the others are compared with
    other = others.values > _NEVER
    windows = torch.cat([mine.indices, others.indices], 1)
    return Judged(windows, torch.cat([same, torch.zeros_like(other)], 1), torch.cat([torch.zeros_like(same), other], 1))


def slot_loss(
    head: SlotHead, query: Tensor, weight: Tensor, keys: Tensor, judged: Judged, *, block: int, window: int, tokens: int
) -> tuple[Tensor, Tensor]:
    """Half the mean loss of what is the same, half that of what is not, and the logits [R, c].

    Args:
        query, weight, keys: [R, t, F], [R, t], [M, F] of the search.
        block, window: memory tokens of a block, blocks of a window.
        tokens: memory tokens of a chunk, beyond whose end no window goes on.
    """
    first = judged.windows * block
    rows = first[:, :, None] + torch.arange(window * block, device=first.device)
    held = rows // tokens == (first // tokens)[:, :, None]
    of_rows = keys.detach()[rows.clamp(max=keys.shape[0] - 1)]
    best = torch.zeros(len(query), dtype=torch.int64, device=first.device)
    logits = head(query.detach(), weight.detach(), of_rows, held, best)
    same = functional.softplus(-logits)[judged.same]
    other = functional.softplus(logits)[judged.other]
    parts = [part.mean() if part.numel() else part.sum() for part in (same, other)]
    return 0.5 * parts[0] + 0.5 * parts[1], logits.detach()
