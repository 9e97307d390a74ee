"""Laws of read layouts: block numbers in, block numbers out, without any model."""

from __future__ import annotations

import pytest
import torch

from mplus.retrieval.read_plan import SPAN_ORDERS, LayoutRule, plan_read
from mplus.settings.read_rule import READ_ORDERS

POSITIONS = torch.arange(12)
SHORT = POSITIONS >= 8


def scores(**best: float) -> torch.Tensor:
    """[12] scores of windows: 0 but for those named ``b<number>``."""
    found = torch.zeros(12)
    for name, value in best.items():
        found[int(name[1:])] = value
    return found


def test_every_layout_of_the_settings_has_its_order() -> None:
    assert ("age", *SPAN_ORDERS) == READ_ORDERS


@pytest.mark.parametrize("order", READ_ORDERS)
def test_every_short_term_block_stands_once(order: str) -> None:
    for seed in range(20):
        drawn = torch.rand(12, generator=torch.Generator().manual_seed(seed))
        plan = plan_read(drawn, POSITIONS, SHORT, LayoutRule(budget=4, neighbours=1, order=order, recency_tail=2))
        read = torch.cat([plan.before, plan.retrieved, plan.recent])
        assert len(read.unique()) == len(read)
        assert set(POSITIONS[SHORT].tolist()) <= set(read.tolist())
        assert len(plan.retrieved) == 4


def test_retrieved_spans_stand_by_score_or_in_the_order_of_the_text() -> None:
    found = scores(b1=3.0, b5=2.0, b9=1.0)
    by_score = plan_read(found, POSITIONS, SHORT, LayoutRule(budget=3, order="score"))
    in_text = plan_read(found, POSITIONS, SHORT, LayoutRule(budget=3, order="text"))
    assert by_score.retrieved.tolist() == [9, 5, 1]
    assert in_text.retrieved.tolist() == [1, 5, 9]
    assert by_score.before.tolist() == in_text.before.tolist() == [8, 10, 11]
    assert not len(in_text.recent)


def test_the_paper_reads_long_term_blocks_before_all_short_term_ones() -> None:
    plan = plan_read(scores(b1=3.0, b5=2.0, b9=9.0), POSITIONS, SHORT, LayoutRule(budget=2))
    assert plan.retrieved.tolist() == [1, 5]
    assert plan.recent.tolist() == [8, 9, 10, 11]
