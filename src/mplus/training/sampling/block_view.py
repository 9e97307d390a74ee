"""Blocks of a bank before a question, in the order of a read at inference. Knows no model.

Legend: m blocks of the shelf, b blocks of a view.

The stream that a bank stands for is its chunks in a random order: any chunk may be the newest, whole spans of any others may
still be in short-term memory, all else is long-term. So one step trains any distance (RECIPE section 5).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from mplus.retrieval.read_plan import SPAN_ORDERS, LayoutRule, choose_blocks, is_confident, plan_read


@dataclass(frozen=True)
class Shape:
    """Sizes in blocks.

    Attributes:
        per_chunk: blocks of a chunk; span: neighbours that leave short-term memory together.
        short: blocks a view reads of short-term memory.
        rule: of what is retrieved and of its layout.
    """

    per_chunk: int
    span: int
    short: int
    rule: LayoutRule


@dataclass(frozen=True)
class BlockView:
    """Blocks [b] in reading order, whether all right ones were among them unaided, and the places of those retrieved as (first, end)."""

    blocks: list[int]
    complete: bool
    retrieved: tuple[int, int] = (0, 0)


def places(chunks: int, per_chunk: int) -> Tensor:
    """[m] place in the text of every block; a chunk's last block and the next chunk's first are no neighbours."""
    return (torch.arange(chunks)[:, None] * (per_chunk + 1) + torch.arange(per_chunk)).flatten()


def retrieval_view(
    scores: Tensor, positions: Tensor, right: list[int], newest: int, shape: Shape, randomness: Random
) -> BlockView:
    """``[short-term, oldest first | retrieved spans in the order of the rule | recency tail]``, planned as a read plans it.

    Right blocks that nobody read are put among the retrieved ones.

    Args:
        scores: [m] of the windows that begin at each block.
        positions: [m] from ``places``.
        right: blocks where the answer stands.
        newest: the chunk that was written last.
    """
    rule, total = shape.rule, len(positions)
    come = _come(newest, right, shape, randomness) if rule.recency_tail else shape.per_chunk
    end = newest * shape.per_chunk + come
    written = torch.ones(total, dtype=torch.bool)
    written[end : (newest + 1) * shape.per_chunk] = False
    numbers = written.nonzero()[:, 0]
    beside = [block % total for block in range(end - rule.recency_tail, end)]
    if not is_confident(scores[numbers], rule):
        beside = short_term(newest, shape, total, randomness, come=come)
    is_beside = torch.isin(numbers, torch.tensor(beside, dtype=torch.int64))
    plan = plan_read(scores[numbers], positions[numbers], is_beside, rule)
    if not plan.recent.numel():
        beside = []  # searched as the rest is
    retrieved = numbers[plan.retrieved]
    others = replace(shape, short=max(0, shape.short - len(beside)))

    def older() -> list[int]:
        without = {*retrieved.tolist(), *beside}
        return short_term(newest, others, total, randomness, without=without, come=come)

    before = older()
    complete = set(right) <= {*retrieved.tolist(), *before, *beside}
    if not complete and rule.budget:
        rank = float(scores[retrieved.sort().values[randomness.randrange(len(retrieved))]])
        written[beside] = False
        retrieved = _with_right(scores, positions, written.nonzero()[:, 0], right, rank, rule)
        before = older()
    return BlockView(before + retrieved.tolist() + beside, complete, (len(before), len(before) + len(retrieved)))


def _with_right(scores: Tensor, positions: Tensor, searched: Tensor, right: list[int], rank: float, rule: LayoutRule) -> Tensor:
    """Blocks of `searched` as a read retrieves them, the right ones among them whatever their score; they are laid out by `rank`."""
    own, places, is_right = scores[searched], positions[searched], torch.isin(searched, torch.tensor(right))
    first = own.masked_fill(is_right, float(own.amax()) + 1.0)
    chosen = choose_blocks(first, places, rule.budget, rule.neighbours, rule.window)
    return searched[SPAN_ORDERS[rule.order](chosen, own.masked_fill(is_right, rank), places)]


def _come(newest: int, right: list[int], shape: Shape, randomness: Random) -> int:
    """How many blocks of the newest chunk have been written: text ends where it ends. What is asked about has been read."""
    first = newest * shape.per_chunk
    own = [block - first + 1 for block in right if 0 <= block - first < shape.per_chunk]
    return randomness.randint(max(own, default=shape.per_chunk // 4), shape.per_chunk)


def in_order_of_birth(view: BlockView, chunk: int, per_chunk: int) -> BlockView:
    """The view with the retrieved blocks of one chunk in the order of its text, in their places: the newest stands nearest the prompt."""
    own = [place for place in range(*view.retrieved) if view.blocks[place] // per_chunk == chunk]
    blocks = list(view.blocks)
    for place, block in zip(own, sorted(blocks[place] for place in own), strict=True):
        blocks[place] = block
    return replace(view, blocks=blocks)


def lead(scores: Tensor, right: list[int], window: int) -> float:
    """By how much the best window that holds some of the right place beats the best one that holds none; below 0: a look-alike leads.

    Args:
        scores: [m] of the windows that begin at each block.
        window: blocks of one.
    """
    holds = torch.zeros(len(scores), dtype=torch.bool)
    holds[max(0, right[0] - window + 1) : right[-1] + 1] = True
    return float(scores[holds].amax() - scores[~holds].amax())


def hardest(leads: list[float], groups: list[bool], count: int, hard_share: float, randomness: Random) -> list[int]:
    """Which `count` questions to keep: of each group its part, those with the smallest lead for `hard_share` of it, others at random."""
    order = sorted(range(len(leads)), key=leads.__getitem__)
    kept: list[int] = []
    for group in (True, False):
        own = [row for row in order if groups[row] is group]
        part = round(count * len(own) / len(leads)) if group else count - len(kept)
        hard = round(part * hard_share)
        kept += own[:hard] + randomness.sample(own[hard:], min(part - hard, len(own) - hard))
    return kept


def short_view(right: list[int], newest: int, shape: Shape, total: int, randomness: Random) -> BlockView:
    """MemoryLLM: short-term memory alone, oldest first, with the span of the right place still in it."""
    if right[0] // shape.per_chunk == newest:
        return BlockView(short_term(newest, shape, total, randomness), True)
    own = sorted({block // shape.span for block in right})
    kept = [block for span in own for block in range(span * shape.span, (span + 1) * shape.span)]
    others = short_term(newest, replace(shape, short=shape.short - len(kept)), total, randomness, without=set(kept))
    older = len(others) - shape.per_chunk  # the newest chunk stays last
    at = randomness.randrange(0, older // shape.span + 1) * shape.span
    return BlockView(others[:at] + kept + others[at:], True)


def short_term(
    newest: int,
    shape: Shape,
    total: int,
    randomness: Random,
    *,
    without: Set[int] = frozenset(),
    come: int | None = None,
) -> list[int]:
    """Short-term blocks, oldest first: random whole spans, then the newest chunk; those in `without` stand elsewhere.

    Args:
        come: blocks of the newest chunk that have been written; None: all.
    """
    first = newest * shape.per_chunk
    last = [block for block in range(first, first + (shape.per_chunk if come is None else come)) if block not in without]
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
