"""Blocks of a memory that can be found, in the order of the text. Knows no model and no scores' origin.

Legend: M long-term tokens, m blocks, k chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mplus.attach.drawn import Found
from mplus.memory.memory import Memory
from mplus.retriever import best_places
from mplus.settings import Geometry


def recent_tokens(births: Tensor, now: int, geometry: Geometry) -> int:
    """How many of the newest short-term tokens stay whole beside the prompt where the best find is among them.

    All but the whole blocks that are older than the last ``Geometry.recent_tokens``.

    Args:
        births: [n] of the short-term tokens, ascending; now: tokens written so far.
    """
    if geometry.read_order != "score" or not geometry.recent_tokens:
        return 0
    older = int((births < now - geometry.recent_tokens).sum())
    return births.shape[0] - older // geometry.block_tokens * geometry.block_tokens


@dataclass(frozen=True)
class Places:
    """All blocks that can be found, in the order of the text: first numbered as the store holds them, then the pool's.

    Attributes:
        in_text: [m] block numbers in the order of the text.
        ids: [m] ascending places in the text (neighbours differ by 1).
        long, short: blocks of the store and of the pool; the pool's newest may be shorter than the others.
    """

    in_text: Tensor
    ids: Tensor
    long: int
    short: int
    block: int

    @classmethod
    def of(cls, memory: Memory, *, with_short_term: bool) -> Places:
        """Those of a memory whose drops are shared."""
        block = memory.geometry.block_tokens
        pool = memory.short_term.births
        known = memory.long_term.derived.get("places")
        if isinstance(known, Known) and known.pool is pool and known.with_short_term == with_short_term:
            return known.places
        parts = [part[::block] for part in memory.long_term.stores[0].parts("birth")]  # a piece holds whole blocks
        starts = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device="cpu")
        long = starts.shape[0]
        if with_short_term:
            starts = torch.cat([starts, pool[0][::block]])
        in_text = starts.argsort(stable=True)
        ids = torch.div(starts[in_text], block, rounding_mode="floor")
        places = cls(in_text, ids, long, starts.shape[0] - long, block)
        memory.long_term.derived["places"] = Known(pool, with_short_term, places)
        return places

    @cached_property
    def follows(self) -> Tensor:
        """[m] whether the next block is the next one of the text."""
        return torch.cat([self.ids.diff() == 1, torch.zeros(min(1, len(self.ids)), dtype=torch.bool, device="cpu")])

    def behind(self, scores: Tensor, recent: int, held: int, *, certain: bool) -> int:
        """How many of the newest of the `held` short-term tokens stay where they are, beside the prompt.

        All of them if the search is not certain; `recent`, if the best of all windows [m] begins among so many newest; else 0.
        """
        if not certain:
            return held
        if not recent or not self.short:
            return 0
        first = self.long + self.short - -(-recent // self.block)
        return recent if int(self.in_text[int(best_places(scores, 1))]) >= first else 0

    def found(self, blocks: Tensor, memory: Memory, scores: Tensor | None) -> Found:
        """What reading `blocks` [k], indices into the order of the text, means for store and pool."""
        numbers = self.in_text[blocks]
        rows = (numbers[:, None] * self.block + torch.arange(self.block, device="cpu")).flatten()
        is_short = rows >= self.long * self.block
        ranks = rows[is_short] - self.long * self.block
        real = ranks < (len(memory.short_term) if self.short else 0)
        kept = torch.ones_like(is_short)
        kept[is_short] = real
        is_short = is_short[kept]
        order = torch.cat([(~is_short).nonzero()[:, 0], is_short.nonzero()[:, 0]]).argsort() if self.short else None
        index = rows[kept][~is_short]
        by_store = None if scores is None else scores.new_empty(self.long).scatter_(0, *self._of_store(scores))
        births = memory.long_term.gather(0, index, ("birth",))["birth"]
        return Found(index, memory.ages(births), by_store, ranks[real], order)

    def _of_store(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        held = self.in_text < self.long
        return self.in_text[held], scores[held]


@dataclass(frozen=True)
class Known:
    """Places that were worked out before; a pool's births are replaced by every write, so the same tensor means the same pool."""

    pool: Tensor
    with_short_term: bool
    places: Places
