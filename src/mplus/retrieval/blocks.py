"""The block table: blocks of a memory in the order of the text, and the rows they stand for. Knows no model and no scores' origin.

Legend: M long-term tokens, m blocks, k chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.retrieval.read_plan import ReadPlan
from mplus.retrieval.result import RetrievalResult
from mplus.settings import Geometry


def recency_tail(births: Tensor, now: int, geometry: Geometry) -> int:
    """How many of the newest short-term tokens stay whole beside the prompt where the best window is among them.

    All but the whole blocks that are older than the last ``Geometry.recent_tokens``.

    Args:
        births: [n] of the short-term tokens, ascending; now: tokens written so far.
    """
    if geometry.read.beside_prompt is None or not geometry.read.recency_tail:
        return 0
    older = int((births < now - geometry.read.recency_tail).sum())
    return births.shape[0] - older // geometry.read.block_tokens * geometry.read.block_tokens


@dataclass(frozen=True)
class BlockTable:
    """All blocks that can be retrieved, in the order of the text.

    Attributes:
        numbers: [m] block numbers: first as the store holds them, then those of short-term memory.
        positions: [m] ascending places in the text (neighbours differ by 1).
        long, short: blocks of the store and of short-term memory; the newest of the latter may be shorter than the others.
        block: tokens of one.
    """

    numbers: Tensor
    positions: Tensor
    long: int
    short: int
    block: int

    @classmethod
    def of(cls, memory: Memory, *, with_short_term: bool) -> BlockTable:
        """Of a memory whose drops are shared; kept until the memory changes."""
        block = memory.geometry.read.block_tokens
        births = memory.placement.births
        known = memory.long_term.cache.get("block table")
        if isinstance(known, _Known) and known.births is births and known.with_short_term == with_short_term:
            return known.table
        starts = memory.long_term.births(0)[::block]  # whole blocks come and go
        long = starts.shape[0]
        if with_short_term:
            starts = torch.cat([starts, births[0][::block]])
        numbers = starts.argsort(stable=True)
        positions = torch.div(starts[numbers], block, rounding_mode="floor")
        table = cls(numbers, positions, long, starts.shape[0] - long, block)
        memory.long_term.cache["block table"] = _Known(births, with_short_term, table)
        return table

    @cached_property
    def is_contiguous(self) -> Tensor:
        """[m] whether the next block is the next one of the text."""
        return torch.cat([self.positions.diff() == 1, torch.zeros(min(1, len(self.positions)), dtype=torch.bool, device="cpu")])

    @cached_property
    def is_short_term(self) -> Tensor:
        """[m] whether a block is in short-term memory."""
        return self.numbers >= self.long

    def rows(self, numbers: Tensor) -> Tensor:
        """[k W] rows of blocks [k] by number: of the store, then those of short-term memory behind them."""
        return (numbers[:, None] * self.block + torch.arange(self.block, device="cpu")).flatten()

    def tokens_of(self, memory: Memory, blocks: Tensor) -> Tensor:
        """[<=k W] numbers, in the order of writing, of the tokens of blocks [k] of the text, as the ledger knows them."""
        rows, stored = self.rows(self.numbers[blocks]), self.long * self.block
        short = memory.placement.rows[0]
        rows = rows[rows < stored + short.shape[0]]
        long = memory.long_term.rows(0)[rows[rows < stored]]
        return torch.cat([long, short[rows[rows >= stored] - stored]]).sort().values

    def result(self, plan: ReadPlan, memory: Memory, scores: Tensor | None) -> RetrievalResult:
        """Map a plan to rows of the store and of short-term memory; the result carries `scores` [m] of all blocks."""
        rows = self.rows(self.numbers[plan.retrieved])
        held = len(memory.short_term) if self.short else 0
        rows = rows[rows < self.long * self.block + held]
        is_short = rows >= self.long * self.block
        order = torch.cat([(~is_short).nonzero()[:, 0], is_short.nonzero()[:, 0]]).argsort() if self.short else None
        index = rows[~is_short]
        return RetrievalResult(
            index,
            memory.ages(memory.long_term.births(0)[index]),
            None if scores is None else self._of_store(scores),
            rows[is_short] - self.long * self.block,
            order,
            behind=self._tokens_behind(len(plan.recent), held) if self.short else None,
            positions=memory.long_term.rows(0)[index],
        )

    def _tokens_behind(self, blocks: int, held: int) -> int:
        """Tokens in the newest `blocks` of the `held` short-term ones."""
        return held - (self.short - blocks) * self.block if blocks else 0

    def _of_store(self, scores: Tensor) -> Tensor:
        """[M / W] scores of the store's blocks in its order."""
        stored = ~self.is_short_term
        return scores.new_empty(self.long).scatter_(0, self.numbers[stored], scores[stored])


@dataclass(frozen=True)
class _Known:
    """A table that was worked out before; births are replaced by every write, so the same tensor means the same short-term memory."""

    births: Tensor
    with_short_term: bool
    table: BlockTable
