"""Memory tokens that one training sample sees: short-term ones, and candidates of its retrieval. Knows births and columns, no numbers.

Legend: G drop groups, n short-term tokens, M long-term candidates.

A *column* is the place of a memory token in the step's table (``mplus.training.bank.step_rows``). A sample's past is a list of writes,
oldest first; each write stands on some columns. Writes nobody needs the content of (between a far target and the newest ones)
stand on none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mplus.retrieval.blocks import recency_tail
from mplus.settings import Geometry

Membership = Callable[[Sequence[int], Geometry, int, int], Tensor]


@dataclass(frozen=True)
class Write:
    """One write of a sample's past.

    Attributes:
        tokens: memory tokens it made.
        first_column: column of the first of them, the others follow; None where the content is not at hand.
        right: it is what the sample asks about.
        findable: False for a second appearance of a chunk, which fills short-term memory but is not found again.
    """

    tokens: int
    first_column: int | None
    right: bool = False
    findable: bool = True


@dataclass(frozen=True)
class MemoryView:
    """Memory tokens of a sample, oldest first.

    Attributes:
        short: G tensors [n_g] of columns; n is the same in all groups unless some writes have no columns.
        short_births: G tensors [n_g].
        long: G tensors [M_g] of columns that may be found.
        long_births: G tensors [M_g].
        right: [r] columns of what the sample asks about, wherever they are.
        now: memory tokens written so far.
    """

    short: list[Tensor]
    short_births: list[Tensor]
    long: list[Tensor]
    long_births: list[Tensor]
    right: Tensor
    now: int

    def recent(self, geometry: Geometry) -> int:
        """How many of the newest short-term tokens may stay behind what was found."""
        return recency_tail(self.short_births[0], self.now, geometry)

    @property
    def candidates(self) -> int:
        """M, of the group that has fewest."""
        return min(part.shape[0] for part in self.long)


def view_of(writes: Sequence[Write], geometry: Geometry, groups: int, seed: int, membership: Membership) -> MemoryView:
    """Build the view of a memory after `writes`.

    Args:
        groups: G.
        membership: ``age.simulated`` or ``age.streamed``.
    """
    right = [
        write.first_column + torch.arange(write.tokens) for write in writes if write.right and write.first_column is not None
    ]
    asked = torch.cat(right) if right else torch.empty(0, dtype=torch.int64)
    if not writes:
        nothing = [torch.empty(0, dtype=torch.int64)] * groups
        return MemoryView(nothing, nothing, nothing, nothing, asked, 0)
    counts = torch.tensor([write.tokens for write in writes])
    born = counts.cumsum(0) - counts
    columns = torch.tensor([-1 if write.first_column is None else write.first_column for write in writes])
    findable = torch.tensor([write.findable and write.first_column is not None for write in writes])
    near = findable.nonzero()[:, 0]
    births = torch.cat(
        [born[write] + torch.arange(int(counts[write])) for write in near.tolist()] or [torch.empty(0, dtype=torch.int64)]
    )
    of_write = near.repeat_interleave(counts[near])
    places = columns[of_write] + births - born[of_write]
    short, short_births, long, long_births = [], [], [], []
    for held in membership([write.tokens for write in writes], geometry, groups, seed):
        write = torch.searchsorted(born, held, right=True) - 1
        known = columns[write] >= 0
        short.append((columns[write] + held - born[write])[known])
        short_births.append(held[known])
        left = ~torch.isin(births, held)
        if geometry.read.is_shared:
            left &= _whole_blocks(births, left, geometry.read.block_tokens)
        long.append(places[left] if geometry.sizes.reads_ltm else places[:0])
        long_births.append(births[left] if geometry.sizes.reads_ltm else births[:0])
    return MemoryView(short, short_births, long, long_births, asked, int(counts.sum()))


def _whole_blocks(births: Tensor, left: Tensor, block: int) -> Tensor:
    """Which tokens stand in blocks of neighbours that all left."""
    ids = torch.div(births, block, rounding_mode="floor")
    found, counts = ids[left].unique(return_counts=True)
    return torch.isin(ids, found[counts == block])
