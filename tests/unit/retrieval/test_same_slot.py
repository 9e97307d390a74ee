"""Laws of what is current: which windows answer the same, and that the newest of them stands last; without any model."""

from __future__ import annotations

import pytest
import torch

from mplus.retrieval.read_plan import LayoutRule, choose_in_two_rounds, newest_first, plan_read
from mplus.retrieval.same_slot import MOST_WINDOWS, candidates, is_same_slot
from mplus.text.past import asks_for_the_past

POSITIONS = torch.arange(24)
SHORT = POSITIONS >= 20
RULE = LayoutRule(budget=4, order="score", same_slot="newest", slot_tolerance=0.2)


def test_a_window_that_finds_less_for_some_word_is_of_another_slot() -> None:
    match = torch.tensor([[10.0, 9.5, 10.0, 12.0], [10.0, 9.8, 2.0, 9.0]])  # words by windows
    weight = torch.tensor([0.5, 0.5])
    assert is_same_slot(match, weight, 0, 0.1).tolist() == [True, True, False, True]
    assert is_same_slot(match, weight, 0, 0.0).tolist() == [True, False, False, False]
    assert is_same_slot(match, weight, 0, 0.5).tolist() == [True] * 4


def test_candidates_are_all_that_can_be_of_the_slot_and_not_too_many() -> None:
    scores = torch.tensor([1.0, 10.0, 8.0, 9.0, float("-inf")])
    assert candidates(scores, 0.2).tolist() == [1, 2, 3]
    assert candidates(scores, 0.15).tolist() == [1, 3]
    assert not candidates(-scores.abs(), 0.2).numel() and not candidates(torch.empty(0), 0.2).numel()
    many = torch.linspace(1, 2, 500)
    assert candidates(many, 0.9).tolist() == list(range(500 - MOST_WINDOWS, 500))


def scored(**best: float) -> torch.Tensor:
    found = torch.zeros(24)
    for name, value in best.items():
        found[int(name[1:])] = value
    return found


def slot(*windows: int) -> torch.Tensor:
    return torch.isin(POSITIONS, torch.tensor(windows))


def test_the_newest_of_a_slot_stands_beside_the_prompt_and_older_ones_before_it() -> None:
    scores = scored(b2=9.0, b6=8.0, b10=7.0, b14=8.5)
    plan = plan_read(scores, POSITIONS, SHORT, RULE, slot=slot(2, 6, 10))
    assert plan.retrieved.tolist() == [14, 2, 6, 10]
    assert plan_read(scores, POSITIONS, SHORT, RULE).retrieved.tolist() == [10, 6, 14, 2]


def test_newer_windows_are_chosen_before_older_ones_but_never_in_place_of_the_best() -> None:
    scores = scored(b2=9.0, b4=8.4, b6=8.0, b8=8.3, b10=7.0, b14=8.5)
    plan = plan_read(scores, POSITIONS, SHORT, LayoutRule(budget=3, order="score", same_slot="newest"), slot=slot(2, 4, 6, 8, 10))
    assert plan.retrieved.tolist() == [2, 8, 10]


def test_older_ones_may_be_left_out() -> None:
    scores = scored(b2=9.0, b6=8.0, b9=6.5, b10=7.0, b14=8.5)
    rule = LayoutRule(budget=4, order="score", same_slot="newest_alone")
    plan = plan_read(scores, POSITIONS, SHORT, rule, slot=slot(2, 6, 9, 10))
    assert plan.retrieved.tolist()[-2:] == [9, 10] and not {2, 6} & set(plan.retrieved.tolist())
    assert 14 in plan.retrieved.tolist()


def test_the_newest_of_a_slot_among_the_newest_tokens_leaves_these_whole_beside_the_prompt() -> None:
    scores = scored(b2=9.0, b22=8.0)
    rule = LayoutRule(budget=2, order="score", recency_tail=3, same_slot="newest")
    plan = plan_read(scores, POSITIONS, SHORT, rule, slot=slot(2, 22))
    assert plan.recent.tolist() == [21, 22, 23] and 2 in plan.retrieved.tolist()
    assert not len(plan_read(scores, POSITIONS, SHORT, rule).recent)


def test_without_a_slot_scores_are_left_as_they_are() -> None:
    scores = torch.rand(24)
    ranking, by_place = newest_first(scores, torch.zeros(24, dtype=torch.bool), alone=False)
    assert ranking is scores and by_place is scores


def test_two_rounds_share_the_budget() -> None:
    first, second = scored(b2=9.0, b6=8.0, b10=7.0), scored(b2=9.0, b18=5.0, b12=4.0)
    rule = LayoutRule(budget=4, order="score")
    assert choose_in_two_rounds(first, second, POSITIONS, rule).tolist() == [2, 6, 12, 18]
    assert set(plan_read(first, POSITIONS, SHORT, rule, second=second).retrieved.tolist()) == {2, 6, 12, 18}


@pytest.mark.parametrize(
    ("question", "past"),
    [
        ("Where does Ana live?", False),
        ("Where did Ana live before?", True),
        ("Where did Ana use to live?", True),
        ("Where she used to live?", True),
        ("What was the gate code at first?", True),
        ("What was the price in March?", True),
        ("What was the price in 2019?", True),
        ("Who was the captain originally?", True),
        ("What time do the first visitors enter?", False),
        ("May I ask who founded it?", False),
        ("Who was captain two years ago?", True),
    ],
)
def test_words_that_ask_for_the_past(question: str, past: bool) -> None:
    assert asks_for_the_past(question) is past
