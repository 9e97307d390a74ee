"""Memory tokens that one prompt read, in the order of their slots. Knows what was retrieved, nothing of sources.

Legend: n tokens of a layer, G drop groups (1, or one per layer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mplus.memory.memory import Memory
from mplus.retrieval.result import RetrievalResult


@dataclass(frozen=True)
class PrefixTokens:
    """Tokens of one layer, or of all layers alike, between BOS and the prompt.

    Attributes:
        positions: [n] in memory, in the order in which they stand before the prompt.
        retrieved: [n] whether they were chosen for this prompt.
        long_term: [n] whether they came from long-term memory.
        scores: [n] of the token, or of the best window that holds it; NaN where it was not scored.
    """

    positions: Tensor
    retrieved: Tensor
    long_term: Tensor
    scores: Tensor

    @property
    def columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four."""
        return self.positions, self.retrieved, self.long_term, self.scores


def prefix_tokens(memory: Memory, results: Sequence[RetrievalResult]) -> list[PrefixTokens]:
    """What stands between BOS and the prompt: one entry for all layers, or one per layer where they differ.

    Args:
        results: of one prompt, from ``Retrieved.layers``; empty where nothing was retrieved.
    """
    short = memory.placement.rows
    layers = max(len(results), short.shape[0])
    return [
        _of_layer(short[group if short.shape[0] > 1 else 0], results[group if len(results) > 1 else 0] if results else None)
        for group in range(layers)
    ]


def _of_layer(short: Tensor, result: RetrievalResult | None) -> PrefixTokens:
    ranks = torch.arange(short.shape[0])
    if result is None:
        return _short_term(short, ranks, None)
    stays = torch.ones(short.shape[0], dtype=torch.bool)
    stays[result.short] = False
    left = ranks[stays]
    older = 0 if result.behind is None else max(0, left.shape[0] - result.behind)
    parts = [_short_term(short, left[:older], result), _chosen(short, result), _short_term(short, left[older:], result)]
    return _joined(parts)


def _short_term(short: Tensor, ranks: Tensor, result: RetrievalResult | None, *, retrieved: bool = False) -> PrefixTokens:
    """Short-term tokens by rank."""
    scores = None if result is None else result.short_scores
    return PrefixTokens(
        short[ranks],
        torch.full(ranks.shape, retrieved),
        torch.zeros(ranks.shape, dtype=torch.bool),
        torch.full(ranks.shape, float("nan")) if scores is None else scores[ranks].float().cpu(),
    )


def _chosen(short: Tensor, result: RetrievalResult) -> PrefixTokens:
    """Retrieved tokens in reading order."""
    positions = result.positions
    yes, scores = torch.ones(positions.shape, dtype=torch.bool), result.read_scores
    stored = PrefixTokens(
        positions, yes, yes, torch.full(positions.shape, float("nan")) if scores is None else scores.float().cpu()
    )
    both = _joined([stored, _short_term(short, result.short, result, retrieved=True)])
    return both if result.order is None else PrefixTokens(*(part[result.order] for part in both.columns))


def _joined(parts: Sequence[PrefixTokens]) -> PrefixTokens:
    return PrefixTokens(*(torch.cat(columns) for columns in zip(*(part.columns for part in parts), strict=True)))
