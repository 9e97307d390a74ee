"""What is kept of a teacher, and the divergence from it, against a slow obvious twin."""

from __future__ import annotations

import math

import pytest
import torch

from mplus.errors import InputError
from mplus.training.objectives.distillation import divergence, likeliest


def slow(student: list[float], teacher: list[float], top: int) -> float:
    """The divergence of one row of logits, word by word from its definition."""
    p, q = ([math.exp(one) / sum(math.exp(other) for other in logits) for one in logits] for logits in (teacher, student))
    kept = sorted(range(len(p)), key=lambda token: -p[token])[:top]
    pairs = [(p[token], q[token]) for token in kept]
    pairs.append((1 - sum(one for one, _ in pairs), 1 - sum(one for _, one in pairs)))
    return sum(one * math.log(one / other) for one, other in pairs)


@pytest.mark.parametrize("top", [1, 3, 19])
def test_the_divergence_is_that_of_the_kept_tokens_and_the_rest_as_one(top: int) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 20) * 2, torch.randn(6, 20) * 2
    got = divergence(student, likeliest(teacher, top))
    want = [slow(row.tolist(), sure.tolist(), top) for row, sure in zip(student, teacher, strict=True)]
    torch.testing.assert_close(got, torch.tensor(want), atol=4e-3, rtol=4e-3)  # the teacher is kept in half precision


def test_a_student_that_is_its_teacher_has_no_divergence_and_no_gradient() -> None:
    torch.manual_seed(1)
    logits = (torch.randn(5, 50) * 3).requires_grad_()
    far = divergence(logits, likeliest(logits.detach(), 20))
    far.sum().backward()
    assert logits.grad is not None
    assert float(far.detach().abs().max()) < 1e-5 and float(logits.grad.abs().max()) < 2e-3


def test_a_sure_teacher_leaves_nothing_to_the_rest_and_stays_finite() -> None:
    sure = torch.zeros(1, 8)
    sure[0, 3] = 500.0
    student = torch.zeros(1, 8, requires_grad=True)
    far = divergence(student, likeliest(sure, 2))
    far.sum().backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()
    assert float(far.detach()) == pytest.approx(math.log(8), abs=1e-3)


@pytest.mark.parametrize("top", [0, 8, 20])
def test_more_tokens_than_the_vocabulary_has_are_refused(top: int) -> None:
    with pytest.raises(InputError, match=rf"top is {top}, but the teacher's vocabulary has 8 tokens; keep from 1 to 7"):
        likeliest(torch.zeros(1, 8), top)
