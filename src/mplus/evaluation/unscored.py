"""Retrieval without scores, to compare with: the newest or random long-term tokens. Knows memories, no prompts."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.per_layer import oldest_first
from mplus.retrieval.protocol import planned_tokens
from mplus.retrieval.read_plan import ReadPlan
from mplus.retrieval.result import RetrievalResult


class UnscoredRetriever:
    """Reads K0 long-term tokens or blocks whatever the prompt is, oldest first; to be put into ``memory.retriever``.

    Args:
        of: the model's retriever, whose form (each layer, or blocks for all) is kept.
        choice: "recent", those written last; "random", drawn by the memory's seed and how much it has read, so that reading twice gives
            the same, every layer draws its own, and reading leaves the memory's own generator alone.
    """

    def __init__(self, of: Any, choice: str) -> None:
        self.of, self.choice = of, choice
        self.layers: tuple[int, ...] = of.layers
        self.in_each_layer: bool = of.in_each_layer

    def can_search(self, memory: Memory) -> bool:
        """See ``Retriever``."""
        return planned_tokens(memory) > 0

    def search(
        self, memory: Memory, normed: Mapping[int, Tensor], text_BT: Tensor, *, exact: bool = False
    ) -> list[RetrievalResult]:
        """See ``Retriever``; the same for every prompt."""
        if not self.in_each_layer:
            return [self._blocks(memory)] * text_BT.shape[0]
        (layer,) = normed
        if (
            memory.geometry.quirks.small_ltm == "repeat"
            and memory.long_term.merged(layer) < memory.geometry.sizes.ltm_read_tokens
        ):
            found: list[RetrievalResult] = self.of.search(
                memory, normed, text_BT, exact=exact
            )  # the published rule knows no scores either
            return found
        return [self._in_layer(memory, layer)] * text_BT.shape[0]

    def _in_layer(self, memory: Memory, layer: int) -> RetrievalResult:
        ages = memory.ages(memory.long_term.births(layer))
        index = oldest_first(ages)[self._picked(memory, len(ages), planned_tokens(memory), layer)]
        return RetrievalResult(index, ages[index], None, positions=memory.long_term.rows(layer)[index])

    def _blocks(self, memory: Memory) -> RetrievalResult:
        by_score = memory.geometry.read.beside_prompt is not None
        table = BlockTable.of(memory, with_short_term=by_score)
        long, short = (part.nonzero()[:, 0] for part in (~table.is_short_term, table.is_short_term))
        chosen = long[self._picked(memory, len(long), memory.geometry.sizes.ltm_read_tokens // table.block, 0)]
        return table.result(ReadPlan(short, chosen, short[:0]), memory, None)

    def _picked(self, memory: Memory, total: int, count: int, layer: int) -> Tensor:
        """Which `count` of `total` tokens or blocks, ascending from oldest to newest."""
        if self.choice == "recent" or total <= count:
            return torch.arange(max(0, total - count), total, device="cpu")
        draw = Random(f"mplus random choice {memory.seed} {memory.now} {layer}")
        return torch.tensor(sorted(draw.sample(range(total), count)), dtype=torch.int64, device="cpu")
