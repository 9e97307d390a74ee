"""Which windows answer the same thing as the best one: they match the question's tokens nearly as well, token by token. Trains nothing.

A statement and its correction name the same subject and the same relation, so every token of the question finds in the one what it finds in
the other; in a statement about somebody else, or about something else of the same subject, some tokens find less. How much less is
compared with the whole match of the best window.

Legend: t query tokens, c windows.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

MOST_WINDOWS: Final = 64
"""Windows that are compared with the best one at most, best scores first."""


def candidates(scores: Tensor, tolerance: float) -> Tensor:
    """[c] ascending windows that can be of the best one's slot, by their scores [m] alone: a lower one lacks too much whatever it matches."""
    if not scores.numel() or not bool(scores.amax() > 0):
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    near = (scores >= (1 - tolerance) * scores.amax()).nonzero()[:, 0]
    if near.shape[0] > MOST_WINDOWS:
        near = near[scores[near].argsort(descending=True, stable=True)[:MOST_WINDOWS]].sort().values
    return near


def is_same_slot(match_tc: Tensor, weight_t: Tensor, best: int, tolerance: float) -> Tensor:
    """[c] whether a window lacks at most `tolerance` of the best one's match.

    Args:
        match_tc: best match of each query token in each window.
        weight_t: of the query tokens.
        best: the window that the others are compared with.
    """
    own = weight_t[:, None].float() * match_tc.float()
    lacks = (own[:, best : best + 1] - own).clamp(min=0).sum(0)
    return lacks <= tolerance * own[:, best].sum()
