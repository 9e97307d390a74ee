"""The losses: their values on cases worked out by hand, their gradients, and their number type."""

from __future__ import annotations

import math

import pytest
import torch

from mplus.training.objectives.losses import as_score, contrastive_loss, language_loss, paper_loss

RIGHT = torch.tensor([[True, True, False, False]])
KNOWN = torch.tensor([[True, True, True, True]])


def test_language_loss_is_cross_entropy_in_nats() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]], dtype=torch.bfloat16)
    loss, right = language_loss(logits, torch.tensor([1, 0]))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2, rel=5e-3)
    assert int(right) == 2, "of equal logits the first is taken"


def test_paper_loss_is_minus_log_p_right_minus_log_one_minus_p_wrong() -> None:
    chance = torch.tensor([[0.9, 0.5, 0.2, 0.4]])
    assert float(paper_loss(chance, RIGHT, KNOWN)) == pytest.approx(-math.log(0.7) - math.log(0.7))


def test_paper_loss_pulls_right_chances_up_and_wrong_ones_down() -> None:
    chance = torch.full((1, 4), 0.5, requires_grad=True)
    paper_loss(chance, RIGHT, KNOWN).backward()
    assert chance.grad is not None
    assert chance.grad[0].sign().tolist() == [-1, -1, 1, 1]


def test_contrastive_loss_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    wrong = math.exp(1) + math.exp(-1)
    some = math.log(math.exp(2) + 1 + wrong) - math.log(math.exp(2) + 1)
    each = ((math.log(wrong + math.exp(2)) - 2) + math.log(wrong + 1)) / 2
    assert float(contrastive_loss(scores, RIGHT, KNOWN)) == pytest.approx((some + each) / 2, rel=1e-5)


def test_contrastive_loss_forgives_some_of_the_right_ones_in_its_first_half() -> None:
    """One right candidate far above all costs little more than half of what none above costs."""
    one = contrastive_loss(torch.tensor([[9.0, 0.0, 0.0, 0.0]]), RIGHT, KNOWN)
    none = contrastive_loss(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), RIGHT, KNOWN)
    all_of_them = contrastive_loss(torch.tensor([[9.0, 9.0, 0.0, 0.0]]), RIGHT, KNOWN)
    assert float(all_of_them) < float(one) < 0.5 * float(none)


@pytest.mark.parametrize("loss", [paper_loss, contrastive_loss])
def test_unknown_candidates_count_neither_way(loss: object) -> None:
    assert callable(loss)
    known = torch.tensor([[True, False, True, False]])
    values = torch.tensor([[0.7, 0.1, 0.3, 0.9]], requires_grad=True)
    got = loss(values, RIGHT, known)
    assert got.item() == pytest.approx(loss(values[:, [0, 2]], RIGHT[:, [0, 2]], KNOWN[:, :2]).item(), rel=1e-5)
    got.backward()
    assert values.grad is not None and values.grad[0, [1, 3]].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", [paper_loss, contrastive_loss])
def test_a_row_without_right_or_wrong_candidates_is_left_out(loss: object) -> None:
    assert callable(loss)
    values = torch.tensor([[0.7, 0.1, 0.3, 0.9], [0.2, 0.2, 0.2, 0.2]])
    right = torch.cat([RIGHT, torch.ones(1, 4, dtype=torch.bool)])
    known = KNOWN.expand(2, -1)
    assert float(loss(values, right, known)) == pytest.approx(float(loss(values[:1], RIGHT, KNOWN)))
    empty = torch.tensor([[0.5, 0.5]], requires_grad=True)
    nothing = loss(empty, torch.zeros(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0.0


def test_saturated_chances_stay_finite_in_value_and_gradient() -> None:
    """In bfloat16 a sigmoid reaches 1.0 (RECIPE section 4)."""
    chance = torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    loss = paper_loss(chance, RIGHT, KNOWN) + contrastive_loss(as_score(chance), RIGHT, KNOWN)
    loss.backward()
    assert loss.dtype == torch.float32 and bool(torch.isfinite(loss))
    assert chance.grad is not None and bool(torch.isfinite(chance.grad).all())


def test_the_score_of_a_chance_is_its_logit() -> None:
    torch.testing.assert_close(as_score(torch.sigmoid(torch.tensor([-2.0, 0.0, 3.0]))), torch.tensor([-2.0, 0.0, 3.0]))
