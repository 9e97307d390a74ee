"""What a question sees of a shelf: which blocks, in which order, as a read at inference would have them. Knows no model.

Legend: m blocks of the shelf, b blocks of a view.

The stream that a shelf stands for is its chunks in a random order: any chunk may be the newest, whole spans of any others may
still be in short-term memory, all else is long-term. So one step trains any distance (RECIPE section 5).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from mplus.retriever import best_span_last, choose_blocks


@dataclass(frozen=True)
class Shape:
    """Sizes in blocks.

    Attributes:
        per_chunk: blocks of a chunk; span: neighbours that leave short-term memory together.
        short, found: blocks a view reads of short-term memory, and of what the vote finds.
        neighbours, window: as the geometry and the retriever have them.
    """

    per_chunk: int
    span: int
    short: int
    found: int
    neighbours: int
    window: int


@dataclass(frozen=True)
class View:
    """Blocks [b] in reading order, and whether all right ones were among them unaided."""

    blocks: list[int]
    complete: bool


def places(chunks: int, per_chunk: int) -> Tensor:
    """[m] place in the text of every block; a chunk's last block and the next chunk's first are no neighbours."""
    return (torch.arange(chunks)[:, None] * (per_chunk + 1) + torch.arange(per_chunk)).flatten()


def found_view(scores: Tensor, ids: Tensor, right: list[int], newest: int, shape: Shape, randomness: Random) -> View:
    """``[short-term, oldest first | found, best span last]``; right blocks that nobody read are put among the found ones.

    Args:
        scores: [m] of the windows that begin at each block.
        ids: [m] from ``places``.
        right: blocks where the answer stands.
        newest: the chunk that was written last.
    """
    found = choose_blocks(scores, ids, shape.found, shape.neighbours, shape.window)
    short = short_term(newest, shape, len(ids), randomness, without=set(found.tolist()))
    complete = set(right) <= set(found.tolist()) | set(short)
    if not complete and shape.found:
        scores = scores.clone()
        rank = float(scores[found[randomness.randrange(len(found))]])
        scores[torch.tensor(right)] = float(scores.amax()) + 1.0
        found = choose_blocks(scores, ids, shape.found, shape.neighbours, shape.window)
        scores[torch.tensor(right)] = rank
        short = short_term(newest, shape, len(ids), randomness, without=set(found.tolist()))
    return View(short + best_span_last(found, scores, ids).tolist(), complete)


def short_view(right: list[int], newest: int, shape: Shape, total: int, randomness: Random) -> View:
    """MemoryLLM: short-term memory alone, oldest first, with the span of the right place still in it."""
    if right[0] // shape.per_chunk == newest:
        return View(short_term(newest, shape, total, randomness), True)
    own = sorted({block // shape.span for block in right})
    kept = [block for span in own for block in range(span * shape.span, (span + 1) * shape.span)]
    others = short_term(newest, replace(shape, short=shape.short - len(kept)), total, randomness, without=set(kept))
    older = len(others) - shape.per_chunk  # the newest chunk stays last
    at = randomness.randrange(0, older // shape.span + 1) * shape.span
    return View(others[:at] + kept + others[at:], True)


def short_term(newest: int, shape: Shape, total: int, randomness: Random, *, without: Set[int] = frozenset()) -> list[int]:
    """Short-term blocks, oldest first: random whole spans, then the newest chunk; those in `without` stand elsewhere."""
    last = [block for block in range(newest * shape.per_chunk, (newest + 1) * shape.per_chunk) if block not in without]
    last = last[-shape.short :] if shape.short else []
    older: list[int] = []
    spans = total // shape.span
    seen: set[int] = set()
    while len(older) + len(last) < shape.short:
        span = randomness.randrange(spans)
        if span in seen or span * shape.span // shape.per_chunk == newest:
            continue
        seen.add(span)
        older += [block for block in range(span * shape.span, (span + 1) * shape.span) if block not in without]
    return (older + last)[-shape.short :] if shape.short else []
