"""The losses of memory training, in float32 whatever the model computes in. Knows scores and logits, not where they come from.

Legend: B rows, T tokens, V vocabulary, C candidates (memory tokens or blocks).

Retriever losses train the search only: the hidden states that queries and keys are made from come in without gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FAR = -1e4  # a score that takes part in no sum; finite, so that no gradient is NaN
LEAST = 1e-6  # a probability is kept this far from 0 and 1


def language_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean negative log-likelihood in nats and how many tokens are predicted right.

    Args:
        logits: [n, V] of the positions asked for.
        targets: [n] token ids.
    """
    logits = logits.float()
    return functional.cross_entropy(logits, targets), (logits.argmax(-1) == targets).sum()


def paper_loss(chance: Tensor, right: Tensor, known: Tensor) -> Tensor:
    """``-log p+ - log(1 - p-)`` (paper section 3.3).

    p+ is the mean chance of the right candidates, p- that of the others; a chance is what a search gives a candidate: the mean
    over the prompt's tokens of ``sigmoid(q . k)``.

    Args:
        chance: [B, C] in 0..1.
        right: [B, C], True at candidates that come from the chunk asked about.
        known: [B, C], False at padding and at candidates that are neither right nor wrong.

    Returns:
        the mean over rows that have a right and a wrong candidate; 0 (with a graph) if there is none.
    """
    chance = chance.float().clamp(LEAST, 1 - LEAST)
    right, wrong = right & known, ~right & known
    positive = (chance * right).sum(1) / right.sum(1).clamp(min=1)
    negative = (chance * wrong).sum(1) / wrong.sum(1).clamp(min=1)
    positive, negative = positive.clamp(min=LEAST), negative.clamp(max=1 - LEAST)
    return _over(-positive.log() - torch.log1p(-negative), right, wrong)


def contrastive_loss(scores: Tensor, right: Tensor, known: Tensor) -> Tensor:
    """Half ``logsumexp(all) - logsumexp(right)``, half each right candidate against all wrong ones (RECIPE section 4).

    The first half is content when some of the right candidates are found, as is enough to answer; the second brings the others
    up too, the value itself among them.

    Args:
        scores: [B, C] unbounded.
        right, known: as for ``paper_loss``.
    """
    scores = scores.float()
    right, wrong = right & known, ~right & known
    against = torch.logsumexp(scores.masked_fill(~wrong, FAR), 1)
    some = torch.logsumexp(scores.masked_fill(~known, FAR), 1) - torch.logsumexp(scores.masked_fill(~right, FAR), 1)
    each = (torch.logaddexp(against[:, None], scores) - scores).masked_fill(~right, 0.0).sum(1) / right.sum(1).clamp(min=1)
    return _over(0.5 * some + 0.5 * each, right, wrong)


def as_score(chance: Tensor) -> Tensor:
    """Logit of a mean sigmoid, for ``contrastive_loss`` over what ``PerLayerRetriever`` gives."""
    return torch.logit(chance.float().clamp(LEAST, 1 - LEAST))


def _over(each: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    asked = right.any(1) & wrong.any(1)
    return (each * asked).sum() / asked.sum().clamp(min=1)
