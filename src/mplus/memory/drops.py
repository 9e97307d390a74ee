"""The short-term tokens that leave at a write. Knows the short-term rows, nothing of models.

Per layer: k independent random ranks in each layer (paper section 3.1). Shared: whole blocks of neighbouring tokens, the
same in all layers, so that what stays and what leaves are legible spans (measured: a 1:1 memory does not survive
per-layer drops, see docs/decisions/0003).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.memory.short_term import ShortTerm
from mplus.settings import Geometry


def choose(short_term: ShortTerm, geometry: Geometry, generator: torch.Generator, new_tokens: int) -> Tensor:
    """Random ranks [G, k] to drop so that `new_tokens` more fit; k = 0 while the short_term still grows."""
    excess = len(short_term) + new_tokens - short_term.capacity_tokens
    if excess <= 0:
        return torch.empty(short_term.drop_groups, 0, dtype=torch.int64)
    if geometry.write.drop == "shared" and geometry.drop_span > 1:
        return _spans(short_term, geometry.drop_span, generator, excess)
    draws = [torch.randperm(len(short_term), generator=generator)[:excess].sort().values for _ in range(short_term.drop_groups)]
    return torch.stack(draws)


def checked_ranks(short_term: ShortTerm, dropped: Tensor, block: int = 1) -> Tensor:
    """Check ranks chosen by the caller and bring them to [G, k], ascending.

    Args:
        block: neighbours that must leave together, because they will be found together.
    """
    ranks = torch.as_tensor(dropped, dtype=torch.int64).cpu().sort(1).values
    if ranks.shape[0] != short_term.drop_groups:
        if short_term.drop_groups != 1 or not bool((ranks == ranks[:1]).all()):
            raise InputError(
                f"dropped ranks have {ranks.shape[0]} groups, this memory drops in {short_term.drop_groups}; give [{short_term.drop_groups}, k]"
            )
        ranks = ranks[:1]
    if ranks.numel() and (int(ranks.min()) < 0 or int(ranks.max()) >= len(short_term)):
        raise InputError(f"dropped ranks must lie in 0..{len(short_term) - 1}, got {int(ranks.min())}..{int(ranks.max())}")
    if bool((ranks.diff() == 0).any()):
        raise InputError("a dropped rank is named twice; name each token that leaves once")
    births = short_term.births.gather(1, ranks)
    if block > 1 and bool((births.div(block, rounding_mode="floor").unique(return_counts=True)[1] != block).any()):
        raise InputError(f"this memory finds blocks of {block} neighbours, so whole blocks must leave; the ranks cut one in two")
    return ranks


def _spans(short_term: ShortTerm, span: int, generator: torch.Generator, excess: int) -> Tensor:
    ids = torch.div(short_term.births[0], span, rounding_mode="floor")
    present, counts = ids.unique(return_counts=True)
    whole = present[counts == span]
    needed = -(-excess // span)
    if whole.shape[0] < needed:
        raise AssertionError(f"{needed} spans must go, only {whole.shape[0]} are whole: Geometry should have refused this pool")
    chosen = whole[torch.randperm(whole.shape[0], generator=generator)[:needed]]
    return torch.isin(ids, chosen).nonzero()[:, 0][None]
