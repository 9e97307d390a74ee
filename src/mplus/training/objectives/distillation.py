"""A teacher's likeliest tokens, and how far a student is from them. Knows logits, not what they are of.

Legend: A answer tokens, V vocabulary, k kept tokens.

Of each distribution the teacher's k likeliest tokens are kept and all others are one token more, so that a kept distribution sums to
one and a divergence of 0 says that student and teacher agree on the k tokens and on the mass of the rest (not on its shape).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mplus.errors import InputError

LEAST_LOG = -60.0  # half precision holds it; e^-60 of a distribution is nothing


@dataclass(frozen=True)
class TeacherTokens:
    """What is kept of a teacher at A answer tokens: k token ids [A, k] in int32, k + 1 log-probabilities [A, k + 1] in half, the rest last."""

    ids: Tensor
    logs: Tensor

    def to(self, device: torch.device) -> TeacherTokens:
        """The same on another device."""
        return TeacherTokens(self.ids.to(device), self.logs.to(device))


def likeliest(logits: Tensor, top: int) -> TeacherTokens:
    """The `top` likeliest tokens of each row of logits [A, V].

    Raises:
        InputError: the vocabulary has no more tokens than that.
    """
    vocabulary = logits.shape[-1]
    if not 1 <= top < vocabulary:
        raise InputError(
            f"top is {top}, but the teacher's vocabulary has {vocabulary} tokens; keep from 1 to {vocabulary - 1} of them"
        )
    ids = logits.topk(top, -1).indices
    return TeacherTokens(ids.int(), _kept(logits, ids).clamp_min(LEAST_LOG).half())


def divergence(logits: Tensor, teacher: TeacherTokens) -> Tensor:
    """KL divergence [A], in nats, of a student's logits [A, V] from its teacher's kept tokens."""
    sure = teacher.logs.float().log_softmax(-1)  # half precision does not sum to one
    return (sure.exp() * (sure - _kept(logits, teacher.ids.long()))).sum(-1)


def _kept(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities [A, k + 1] of the kept tokens and, last, of all others together."""
    logits = logits.float()
    whole = logits.logsumexp(-1, keepdim=True)
    rest = logits.scatter(-1, ids, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, ids), rest], -1) - whole
