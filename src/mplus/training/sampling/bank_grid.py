"""Blocks of a bank whose memory tokens stand for one text token or several. Knows no model and no question.

Legend: C chunks, m blocks of all chunks, r text tokens of a memory token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mplus.training.sampling.block_view import places


@dataclass(frozen=True)
class BankGrid:
    """How chunks are cut into blocks at one ratio.

    Attributes:
        ratio: r.
        block: text tokens of a block.
        per_chunk: blocks of a chunk.
        positions: [m] from ``places``.
        is_contiguous: [m] whether the next block is the next one of the text.
    """

    ratio: int
    block: int
    per_chunk: int
    positions: Tensor
    is_contiguous: Tensor

    @classmethod
    def of(cls, chunks: int, tokens: int, block_rows: int, ratio: int) -> BankGrid:
        """Of C chunks of so many text tokens.

        Args:
            block_rows: memory tokens of a block.
        """
        positions = places(chunks, tokens // (block_rows * ratio))
        is_contiguous = torch.cat([positions.diff() == 1, torch.zeros(1, dtype=torch.bool)])
        return cls(ratio, block_rows * ratio, tokens // (block_rows * ratio), positions, is_contiguous)

    def blocks_of(self, chunk: int, span: Sequence[int]) -> list[int]:
        """Blocks in which the tokens of a span of a chunk stand."""
        first = chunk * self.per_chunk
        return [first + place for place in range(span[0] // self.block, (span[1] - 1) // self.block + 1)]

    def columns(self, blocks: Tensor) -> Tensor:
        """[R, b * block] columns of the bank, one a text token, of blocks [R, b]."""
        return (blocks[:, :, None] * self.block + torch.arange(self.block)).flatten(1)
