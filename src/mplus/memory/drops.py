"""The short-term tokens that leave at a write. Knows births, nothing of rows and models.

Per layer: k independent random ranks in each layer (paper section 3.1). Shared: whole blocks of neighbouring tokens, the
same in all layers, so that what stays and what leaves are legible spans (measured: a 1:1 memory does not survive
per-layer drops, see docs/decisions/0003).

Legend: G drop groups, n short-term tokens, k that leave.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.settings import Geometry


def choose(births: Tensor, geometry: Geometry, generator: torch.Generator, new_tokens: int) -> Tensor:
    """Random ranks [G, k] to drop so that `new_tokens` more fit beside tokens of `births` [G, n]; k = 0 while there is room."""
    groups, held = births.shape
    excess = held + new_tokens - geometry.sizes.stm_tokens
    if excess <= 0:
        return torch.empty(groups, 0, dtype=torch.int64, device="cpu")
    if geometry.write.drop == "shared" and geometry.drop_span > 1:
        return _spans(births[0], geometry.drop_span, generator, excess)
    draws = [torch.randperm(held, generator=generator, device="cpu")[:excess].sort().values for _ in range(groups)]
    return torch.stack(draws)


def checked_ranks(births: Tensor, dropped: Tensor, block: int = 1) -> Tensor:
    """Check ranks chosen by the caller and bring them to [G, k], ascending.

    Args:
        births: [G, n] of the short-term tokens.
        block: neighbours that must leave together, because they will be found together.
    """
    groups, held = births.shape
    ranks = torch.as_tensor(dropped, dtype=torch.int64).cpu().sort(1).values
    if ranks.shape[0] != groups:
        if groups != 1 or not bool((ranks == ranks[:1]).all()):
            raise InputError(f"dropped ranks have {ranks.shape[0]} groups, this memory drops in {groups}; give [{groups}, k]")
        ranks = ranks[:1]
    if ranks.numel() and (int(ranks.min()) < 0 or int(ranks.max()) >= held):
        raise InputError(f"dropped ranks must lie in 0..{held - 1}, got {int(ranks.min())}..{int(ranks.max())}")
    if bool((ranks.diff() == 0).any()):
        raise InputError("a dropped rank is named twice; name each token that leaves once")
    leaving = births.gather(1, ranks)
    if block > 1 and bool((leaving.div(block, rounding_mode="floor").unique(return_counts=True)[1] != block).any()):
        raise InputError(f"this memory finds blocks of {block} neighbours, so whole blocks must leave; the ranks cut one in two")
    return ranks


def _spans(births: Tensor, span: int, generator: torch.Generator, excess: int) -> Tensor:
    ids = torch.div(births, span, rounding_mode="floor")
    present, counts = ids.unique(return_counts=True)
    whole = present[counts == span]
    needed = -(-excess // span)
    if whole.shape[0] < needed:  # spans that lost a part to `forget` go as a whole too
        whole = present[:-1] if int(counts[-1]) < span else present
    if whole.shape[0] < needed:
        raise AssertionError(f"{needed} spans must go, only {whole.shape[0]} are there: Geometry should have refused this pool")
    chosen = whole[torch.randperm(whole.shape[0], generator=generator, device="cpu")[:needed]]
    return torch.isin(ids, chosen).nonzero()[:, 0][None]
