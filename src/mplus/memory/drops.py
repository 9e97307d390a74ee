"""Which short-term tokens leave at a write. Knows the pool, nothing of models.

Per layer: k independent random ranks in each layer (paper section 3.1). Shared: whole blocks of neighbouring tokens, the
same in all layers, so that what stays and what leaves are legible spans (measured: a 1:1 memory does not survive
per-layer drops, see docs/decisions/0003).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.memory.pool import Pool
from mplus.settings import Geometry


def choose(pool: Pool, geometry: Geometry, generator: torch.Generator, new_tokens: int) -> Tensor:
    """Random ranks [G, k] to drop so that `new_tokens` more fit; k = 0 while the pool still grows."""
    excess = len(pool) + new_tokens - pool.capacity_tokens
    if excess <= 0:
        return torch.empty(pool.drop_groups, 0, dtype=torch.int64)
    if geometry.drop == "shared" and geometry.drop_span > 1:
        return _spans(pool, geometry.drop_span, generator, excess)
    draws = [torch.randperm(len(pool), generator=generator)[:excess].sort().values for _ in range(pool.drop_groups)]
    return torch.stack(draws)


def given(pool: Pool, dropped: Tensor, block: int = 1) -> Tensor:
    """Check ranks chosen by the caller and bring them to [G, k], ascending.

    Args:
        block: neighbours that must leave together, because they will be found together.
    """
    ranks = torch.as_tensor(dropped, dtype=torch.int64).cpu().sort(1).values
    if ranks.shape[0] != pool.drop_groups:
        if pool.drop_groups != 1 or not bool((ranks == ranks[:1]).all()):
            raise InputError(
                f"dropped ranks have {ranks.shape[0]} groups, this memory drops in {pool.drop_groups}; give [{pool.drop_groups}, k]"
            )
        ranks = ranks[:1]
    if ranks.numel() and (int(ranks.min()) < 0 or int(ranks.max()) >= len(pool)):
        raise InputError(f"dropped ranks must lie in 0..{len(pool) - 1}, got {int(ranks.min())}..{int(ranks.max())}")
    if bool((ranks.diff() == 0).any()):
        raise InputError("a dropped rank is named twice; name each token that leaves once")
    births = pool.births.gather(1, ranks)
    if block > 1 and bool((births.div(block, rounding_mode="floor").unique(return_counts=True)[1] != block).any()):
        raise InputError(f"this memory finds blocks of {block} neighbours, so whole blocks must leave; the ranks cut one in two")
    return ranks


def _spans(pool: Pool, span: int, generator: torch.Generator, excess: int) -> Tensor:
    ids = torch.div(pool.births[0], span, rounding_mode="floor")
    present, counts = ids.unique(return_counts=True)
    whole = present[counts == span]
    needed = -(-excess // span)
    if whole.shape[0] < needed:
        raise AssertionError(f"{needed} spans must go, only {whole.shape[0]} are whole: Geometry should have refused this pool")
    chosen = whole[torch.randperm(whole.shape[0], generator=generator)[:needed]]
    return torch.isin(ids, chosen).nonzero()[:, 0][None]
