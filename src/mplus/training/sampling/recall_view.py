"""What the memory of each question of a step holds, as columns of one table of rows. Knows ages and columns, no rows.

The chunks of a table stand on a ring; the memory of a question was written along it, from a random place on, with the chunk it asks
about put in at a random age.

Legend: R questions, L layers, C chunks of the table, K rows of a chunk, M = C * K columns, N short-term tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RecallView:
    """Memories of a step.

    Attributes:
        short: [L, R, n] columns in short-term memory, the oldest first.
        right: [R, M] rows of the chunk a question asks about.
        ages: [R, M] in tokens, the larger the older; only their order counts.
        long_tokens: K0 of the read, or 0 where nothing is retrieved.
    """

    short: Tensor
    right: Tensor
    ages: Tensor
    long_tokens: int

    @property
    def tokens(self) -> int:
        """Memory tokens of a read."""
        return self.short.shape[2] + self.long_tokens

    def to(self, device: torch.device) -> RecallView:
        """The same on a device."""
        return RecallView(self.short.to(device), self.right.to(device), self.ages.to(device), self.long_tokens)


def views_of(
    back: Tensor, own: Tensor, chunks: int, longest: int, found: int, rows: int, generator: torch.Generator
) -> RecallView:
    """Draw an age for every question and place the table's chunks around it.

    Args:
        back: [L, R, n] tokens in short-term memory, counted back from the newest.
        own: [R] chunk asked about.
        chunks: C, more than the writes of which `back` holds tokens.
        longest: most writes since the chunk asked about.
        found: K0, long-term tokens of a read; 0: none.
        rows: K.
    """
    questions = len(own)
    ages = ages_of(questions, longest, generator)
    offset = torch.randint(chunks, (questions,), generator=generator)
    since, row = torch.div(back, rows, rounding_mode="floor"), rows - 1 - back % rows
    chunk = (offset[None, :, None] + since) % chunks
    spare = (offset - 1) % chunks  # the far end of the ring stands in where the own chunk would appear at another age
    chunk = torch.where(chunk == own[None, :, None], spare[None, :, None], chunk)
    chunk = torch.where(since == ages[None, :, None], own[None, :, None], chunk)
    number = torch.arange(chunks)
    since_written = (number[None] - offset[:, None]) % chunks * max(1.0, longest / chunks)
    is_own = number[None] == own[:, None]
    since_written = torch.where(is_own, ages[:, None].float() + 0.5, since_written)
    in_tokens = since_written[:, :, None] * rows + torch.arange(rows - 1, -1, -1)
    return RecallView(chunk * rows + row, is_own.repeat_interleave(rows, 1), in_tokens.flatten(1), found)


def ages_of(count: int, longest: int, generator: torch.Generator) -> Tensor:
    """Ages in writes, half uniform over 0 to `longest`, half log-uniform (as ``age.age_of``)."""
    uniform = torch.randint(longest + 1, (count,), generator=generator)
    logs = torch.rand(count, generator=generator) * math.log(longest + 2)
    near = (logs.exp() - 1).floor().long().clamp(max=longest)
    return torch.where(torch.rand(count, generator=generator) < 0.5, uniform, near)
