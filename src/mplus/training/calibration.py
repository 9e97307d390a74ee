"""Fit of a calibration: a logistic model of the evidence of reads, on questions whose answer a memory holds and does not hold.

Knows evidence and labels, not what a confidence is used for.

Legend: r rows, e kinds of evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from mplus.corpus.absent import AskedQuestion, QuestionSet
from mplus.errors import InputError
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.settings.calibration import Calibration
from mplus.trace.evidence import EVIDENCE
from mplus.trace.trace import Answer

RIDGE: Final = 0.01
"""Penalty of the squared weights, of evidence scaled to unit variance: two kinds that say the same share their weight."""
_BATCH: Final = 8
_ANSWER_TOKENS: Final = 16


@dataclass(frozen=True)
class EvidenceRow:
    """A question, the answer that a model gave from memory, and the evidence of its read."""

    question: AskedQuestion
    answer: str
    evidence: dict[str, float]


def read_rows(model: MPlusModel, asked: QuestionSet, *, progress: Callable[[int], None] = lambda done: None) -> list[EvidenceRow]:
    """Write the sources of a question set into a new memory, and ask everything about it.

    Args:
        progress: called with the number of questions asked so far.

    Raises:
        InputError: reads of this model show no evidence, since each layer retrieves for itself.
    """
    check_calibratable(model)
    memory = model.new_memory(seed=0)
    for name, text in asked.sources:
        memory.write(text, source=name)
    rows: list[EvidenceRow] = []
    for start in range(0, len(asked.questions), _BATCH):
        rows += _rows_of(model, memory, asked.questions[start : start + _BATCH])
        progress(len(rows))
    return rows


def check_calibratable(model: MPlusModel) -> None:
    """Refuse a model whose reads show no evidence.

    Raises:
        InputError.
    """
    if not (model.geometry.read.is_shared and model.geometry.sizes.reads_ltm) or model.tokenizer is None:
        why = "it has no tokenizer" if model.tokenizer is None else "its layers do not share what they retrieve"
        raise InputError(f"model {model.name!r} cannot be calibrated: {why}; a model that `mplus train` adapted can be")


def _rows_of(model: MPlusModel, memory: Memory, questions: Sequence[AskedQuestion]) -> Iterator[EvidenceRow]:
    answers = _answers(model, memory, [one.text for one in questions])
    for question, answer in zip(questions, answers, strict=True):
        assert answer.evidence is not None
        yield EvidenceRow(question, answer.text, dict(answer.evidence))


def _answers(model: MPlusModel, memory: Memory, texts: Sequence[str]) -> list[Answer]:
    """Greedy answers, asked as `mplus ask` asks them where the model has a chat template."""
    options: dict[str, Any] = {"max_new_tokens": _ANSWER_TOKENS, "do_sample": False}
    if getattr(model.tokenizer, "chat_template", None) is None:
        answers: list[Answer] = model.generate(texts, memory, trace=True, **options)
        return answers
    answers = model.chat([[{"role": "user", "content": text}] for text in texts], memory, trace=True, **options)
    return answers


def fit(rows: Sequence[EvidenceRow]) -> Calibration:
    """The calibration under which the labels of the rows are the likeliest, with a small ridge penalty; both labels count half.

    Raises:
        InputError: all rows have the same label.
    """
    values = torch.tensor([[row.evidence[name] for name in EVIDENCE] for row in rows], dtype=torch.float64, device="cpu")
    labels = torch.tensor([row.question.is_present for row in rows], dtype=torch.float64, device="cpu")
    if not 0 < labels.mean() < 1:
        raise InputError("a calibration is fitted to questions with and without an answer in memory; give some of both")
    mean, scale = values.mean(0), values.std(0).clamp(min=1e-6)
    weights, bias = _logistic((values - mean) / scale, labels)
    raw = weights / scale
    return Calibration(
        bias=round(float(bias - (raw * mean).sum()), 6),
        weights={name: round(float(weight), 6) for name, weight in zip(EVIDENCE, raw, strict=True)},
    )


def _logistic(values_re: Tensor, labels_r: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [e] and bias of a ridge logistic regression, by L-BFGS."""
    share = labels_r.mean()
    balance = torch.where(labels_r > 0, 0.5 / share, 0.5 / (1 - share))
    found = torch.zeros(values_re.shape[1] + 1, dtype=torch.float64, device="cpu", requires_grad=True)
    optimiser = torch.optim.LBFGS([found], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = values_re @ found[:-1] + found[-1]
        own: Tensor = functional.binary_cross_entropy_with_logits(logits, labels_r, weight=balance)
        own = own + RIDGE * found[:-1].square().sum()
        own.backward()
        return own

    with torch.enable_grad():
        optimiser.step(loss)
    return found.detach()[:-1], found.detach()[-1]
