"""Consecutive pieces of rows, cut anew. Knows no store and no scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def groups(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Consecutive groups [size, ...] of rows that come in pieces [m, ...]; what is left over at the end is not given."""
    return (group for group in recut(parts, size) if group.shape[0] == size)


def recut(parts: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Consecutive groups [size, ...] of rows that come in pieces [m, ...], the last group as long as what is left.

    So what is computed a group at a time does not depend on how the rows happen to lie: products round by the shape of a group.
    """
    held: list[Tensor] = []
    count = 0
    for part in parts:
        rest = part
        while rest.shape[0]:
            take = rest[: size - count]
            held.append(take)
            count, rest = count + take.shape[0], rest[take.shape[0] :]
            if count == size:
                yield held[0] if len(held) == 1 else torch.cat(held)
                held, count = [], 0
    if held:
        yield held[0] if len(held) == 1 else torch.cat(held)
