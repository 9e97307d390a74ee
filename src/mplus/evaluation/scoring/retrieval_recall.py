"""Whether what a question needs was read: the share of the right long-term tokens among those retrieved, beside chance.

Knows memories and what a reading pass drew, runs no model and changes nothing.
Legend: L layers, k tokens read from long-term memory, M tokens in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mplus.evaluation.schedule.stream import Question, Span
from mplus.memory.memory import Memory


@dataclass(frozen=True, kw_only=True)
class RetrievalRecall:
    """Retrieval recall of one question; lists have one entry that holds for all layers, or L.

    Attributes:
        right_in_ltm: tokens of the passage or fact that stood in long-term memory.
        right_read: those of them that were read.
        chance: k / M, the share a random choice reads; 0 while long-term memory is empty.
        answer_read: whether every token of the answer's place was read, from short-term or long-term memory.
    """

    right_in_ltm: list[int]
    right_read: list[int]
    chance: list[float]
    answer_read: list[bool]

    @property
    def share(self) -> float | None:
        """Share of the right long-term tokens that were read, mean over the layers that had some; None where none had."""
        shares = [read / there for read, there in zip(self.right_read, self.right_in_ltm, strict=True) if there]
        return sum(shares) / len(shares) if shares else None


@dataclass
class ChunkBirths:
    """Which memory tokens the text became: one entry per chunk, in reading order."""

    chunks: list[tuple[int, int, int, int]] = field(default_factory=list)

    def note(self, start: int, stop: int, first: int, last: int) -> None:
        """Text tokens ``start`` to ``stop`` became the memory tokens born from ``first`` to before ``last``."""
        self.chunks.append((start, stop, first, last))

    def of(self, span: Span, *, spread: bool, tokens_per_row: int = 1) -> Tensor:
        """Births of the memory tokens of a span of the text.

        Args:
            spread: a chunk's memory tokens stand evenly for its text tokens (input tap); else each stands for the whole chunk.
            tokens_per_row: text tokens that each but a chunk's last stands for; 1: as evenly as their number says.
        """
        found: list[Tensor] = []
        for start, stop, first, last in self.chunks:
            low, high = max(span[0], start), min(span[1], stop)
            if low >= high:
                continue
            if tokens_per_row > 1:
                first, last = first + (low - start) // tokens_per_row, first - (start - high) // tokens_per_row
            elif spread:
                share = (last - first) / (stop - start)
                first, last = first + int((low - start) * share), first + max(1, -int(-(high - start) * share // 1))
            found.append(torch.arange(first, last))
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def can_trace(memory: Any) -> bool:
    """Whether a memory tells which of its tokens were read, and when each was written."""
    return isinstance(memory, Memory) and memory.geometry.sizes.reads_ltm and memory.geometry.quirks.stm_ages == "since_written"


def reads(
    memory: Memory, births: ChunkBirths, questions: Sequence[Question], drawn: Sequence[Any]
) -> list[RetrievalRecall | None]:
    """Retrieval recall of each question; None where its span is empty.

    Args:
        drawn: a ``Retrieved`` per question, as ``model.chat(..., retrieved=[])`` gives them; empty while nothing is drawn.
    """
    spread, per_row = memory.geometry.write.tap == "input", memory.geometry.sizes.tokens_per_row
    stores = [memory.long_term.births(group) for group in range(memory.long_term.groups)]
    return [
        None
        if question.span[0] == question.span[1]
        else _read(
            memory,
            stores,
            one.layers,
            *(births.of(span, spread=spread, tokens_per_row=per_row) for span in (question.span, question.answer_span)),
        )
        for question, one in zip(questions, drawn, strict=True)
    ]


def _read(memory: Memory, stores: list[Tensor], layers: Sequence[Any], passage: Tensor, answer: Tensor) -> RetrievalRecall:
    pool = memory.placement.births
    in_ltm, read, chance, whole = [], [], [], []
    for group, held in enumerate(stores):
        drawn = memory.now - 1 - layers[group].ages.cpu() if group < len(layers) else held.new_empty(0)
        short = pool[group if pool.shape[0] > 1 else 0]
        right = passage[torch.isin(passage, held)]
        in_ltm.append(int(right.numel()))
        read.append(int(torch.isin(right, drawn).sum()))
        chance.append(drawn.unique().numel() / held.numel() if held.numel() else 0.0)
        whole.append(bool(torch.isin(answer, torch.cat([drawn, short])).all()))
    return RetrievalRecall(right_in_ltm=in_ltm, right_read=read, chance=chance, answer_read=whole)
