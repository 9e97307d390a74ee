"""Layout of a read: which blocks stand before, among and behind the retrieved ones. Knows block numbers, no memory and no model.

Legend: m blocks in the order of the text, k chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LayoutRule:
    """Budget and layout of a read, in blocks.

    Attributes:
        budget: blocks retrieved at most.
        neighbours: blocks taken along on each side of a window.
        window: neighbouring blocks that are scored together.
        order: `age` (paper): long-term blocks only, oldest first, all short-term ones behind them; one of ``SPAN_ORDERS``: short-term
            blocks are retrieved too, and what is retrieved stands span by span beside the prompt.
        recency_tail: for ``SPAN_ORDERS``, newest short-term blocks that stay whole beside the prompt where the best window begins among
            them.
        min_confidence: for ``SPAN_ORDERS``, all short-term blocks stay beside the prompt where no window scores so much; None: never.
        same_slot: which of several windows that answer the same stands beside the prompt (``mplus.settings.read_rule.SameSlot``).
        slot_tolerance: share of the best window's match that such windows may lack (``mplus.retrieval.same_slot``).
    """

    budget: int
    neighbours: int = 0
    window: int = 1
    order: str = "age"
    recency_tail: int = 0
    min_confidence: float | None = None
    same_slot: str = "score"
    slot_tolerance: float = 0.0

    @property
    def beside_prompt(self) -> bool:
        """Tell whether what is retrieved stands between short-term memory and the prompt."""
        return self.order != "age"


@dataclass(frozen=True)
class ReadPlan:
    """Blocks of a read in the order in which they stand before the prompt, as indices into the blocks in the order of the text.

    Attributes:
        before: short-term blocks at their place in time, before what was retrieved.
        retrieved: in reading order.
        recent: short-term blocks between what was retrieved and the prompt.
    """

    before: Tensor
    retrieved: Tensor
    recent: Tensor


def plan_read(
    scores: Tensor,
    positions: Tensor,
    is_short_term: Tensor,
    rule: LayoutRule,
    *,
    confident: bool | None = None,
    slot: Tensor | None = None,
    second: Tensor | None = None,
) -> ReadPlan:
    """Choose blocks by the scores of the windows that begin at them, and lay them out.

    Args:
        scores: [m] of the window that begins at each block.
        positions: [m] ascending block positions in the text (neighbours differ by 1).
        is_short_term: [m] False where a block is in long-term memory.
        confident: whether the search is sure of its best; None: as `rule` says of these scores.
        slot: [m] windows that answer the same as the best one; the newest of them then takes its place beside the prompt.
        second: [m] scores of a second round, which has half of the budget; None: there is one round.
    """
    confident = is_confident(scores, rule) if confident is None else confident
    ranking, by_place = (scores, scores) if slot is None else newest_first(scores, slot, alone=rule.same_slot == "newest_alone")
    short = is_short_term.nonzero()[:, 0]
    recent = short[short.shape[0] - _recent_blocks(by_place, short, rule, confident) :]
    searched = torch.ones_like(is_short_term)
    searched[recent] = False
    numbers = searched.nonzero()[:, 0]
    own_positions = positions[numbers]
    if second is None:
        chosen = choose_blocks(ranking[numbers], own_positions, rule.budget, rule.neighbours, rule.window)
    else:
        chosen = choose_in_two_rounds(ranking[numbers], second[numbers], own_positions, rule)
        by_place = torch.maximum(by_place, second)
    if rule.beside_prompt:
        chosen = SPAN_ORDERS[rule.order](chosen, by_place[numbers], own_positions)
    retrieved = numbers[chosen]
    left = is_short_term & searched
    left[retrieved] = False
    return ReadPlan(left.nonzero()[:, 0], retrieved, recent)


def is_confident(scores: Tensor, rule: LayoutRule) -> bool:
    """Tell whether the best of the scores [m] reaches what the rule asks for."""
    return rule.min_confidence is None or not scores.numel() or bool(scores.amax() >= rule.min_confidence)


def newest_first(scores: Tensor, slot: Tensor, *, alone: bool) -> tuple[Tensor, Tensor]:
    """Scores [m] by which windows are chosen, and those by which they are ordered, where some answer the same.

    Those of the slot stand above all others, newer above older. What is chosen first is the best of them, so that a window that is in the
    slot by mistake cannot push it out.

    Args:
        slot: [m] windows that answer the same, in the order of the text.
        alone: older windows than the newest that stand apart from it are not read at all.
    """
    if not bool(slot.any()):
        return scores, scores
    same = slot.nonzero()[:, 0]
    least = scores[scores.isfinite()].amax() + 1
    by_place = scores.clone()
    by_place[same] = least + torch.arange(same.shape[0], dtype=scores.dtype, device=scores.device)
    ranking = by_place.clone()
    if alone:
        older = same[same < _first_of_last_run(same)]
        by_place[older] = ranking[older] = float("-inf")
    else:
        ranking[best_places(scores, 1)] = float("inf")
    return ranking, by_place


def _first_of_last_run(numbers: Tensor) -> Tensor:
    """The first of the last ascending numbers [k] that follow each other one by one."""
    breaks = (numbers.diff() != 1).nonzero()[:, 0]
    first: Tensor = numbers[int(breaks[-1]) + 1 if breaks.numel() else 0]
    return first


def choose_in_two_rounds(scores: Tensor, second: Tensor, positions: Tensor, rule: LayoutRule) -> Tensor:
    """Blocks of which half are chosen by the scores [m] of the first round and the others by those of the second.

    Args:
        positions: [m] as for ``choose_blocks``.
    """
    first = choose_blocks(scores, positions, rule.budget // 2, rule.neighbours, rule.window)
    taken = second.clone()
    taken[first] = float("-inf")
    both = torch.cat([first, choose_blocks(taken, positions, rule.budget - rule.budget // 2, rule.neighbours, rule.window)])
    distinct: Tensor = both.unique()
    return distinct


def _recent_blocks(scores: Tensor, short: Tensor, rule: LayoutRule, confident: bool) -> int:
    """How many of the newest of the short-term blocks [s] stay beside the prompt."""
    if not rule.beside_prompt or not confident:
        return short.shape[0]
    if not rule.recency_tail or not short.shape[0]:
        return 0
    newest = short[-rule.recency_tail :]
    return newest.shape[0] if bool((newest == best_places(scores, 1)).any()) else 0


def best_places(scores: Tensor, count: int) -> Tensor:
    """[<=count] places of the highest scores [m], highest first; of equal scores the earlier place first.

    ``topk`` leaves open which of equal scores it gives, so what a prompt reads would depend on what it is computed together with.
    """
    count = min(count, scores.shape[0])
    if count < 1:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    scores = scores.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    least = scores.topk(count).values[-1]
    above = (scores > least).nonzero()[:, 0]
    chosen = torch.cat([above, (scores == least).nonzero()[: count - above.shape[0], 0]])
    return chosen[scores[chosen].argsort(descending=True, stable=True)]


def choose_blocks(scores: Tensor, positions: Tensor, budget: int, neighbours: int, window: int = 1) -> Tensor:
    """The best windows and their neighbours in the text, until `budget` blocks are chosen.

    Args:
        scores: [m] score of the window that begins at each block.
        positions: [m] ascending block positions in the text (neighbours differ by 1).
        budget: blocks to read at most.
        neighbours: blocks taken along on each side.
        window: blocks of one window.

    Returns:
        [<=budget] indices into the blocks, oldest first.
    """
    total = scores.shape[0]
    if total <= budget:
        return torch.arange(total, device="cpu")
    ranked = positions[best_places(scores, budget).cpu()]  # each hit brings at least itself
    wanted = (ranked[:, None] + _outwards(neighbours, window)).flatten()
    place = torch.searchsorted(positions, wanted).clamp(max=total - 1)
    held = place[positions[place] == wanted]
    chosen: dict[int, None] = {}
    for block in held.tolist():
        chosen.setdefault(block)
        if len(chosen) == budget:
            break
    return torch.tensor(sorted(chosen), dtype=torch.int64, device="cpu")


def _outwards(neighbours: int, window: int) -> Tensor:
    """[window + 2 neighbours] steps from a window's first block: the window first, then outwards."""
    reach = torch.arange(-neighbours, window + neighbours, device="cpu")
    return reach[torch.maximum(-reach, reach - window + 1).clamp(min=0).argsort(stable=True)]


def best_span_last(chosen: Tensor, scores: Tensor, positions: Tensor) -> Tensor:
    """Chosen blocks in spans of neighbours, the span with the best block last; in a span the order of the text.

    Args:
        chosen: [k] ascending indices into the blocks.
        scores, positions: [m] as for ``choose_blocks``.
    """
    if not chosen.numel():
        return chosen
    breaks = positions[chosen].diff() != 1
    span = torch.cat([breaks.new_zeros(1), breaks]).cumsum(0)
    own = scores[chosen].float().cpu()
    best = own.new_full((int(span[-1]) + 1,), float("-inf")).scatter_reduce(0, span, own, "amax")
    order = best.argsort(stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device="cpu"))
    return chosen[rank[span].argsort(stable=True)]


def in_text_order(chosen: Tensor, scores: Tensor, positions: Tensor) -> Tensor:
    """Chosen blocks [k] as the text has them; arguments as for ``best_span_last``."""
    return chosen


SPAN_ORDERS: Final[dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {"score": best_span_last, "text": in_text_order}
"""Orders of retrieved spans beside the prompt, by the name of the setting (``mplus.settings.read_rule``)."""
