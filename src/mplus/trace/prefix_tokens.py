"""Memory tokens that one prompt read, in the order of their slots. Knows what was retrieved, nothing of sources.

Legend: n tokens of a layer (n short-term and k long-term ones), G drop groups (1, or one per layer), t searching tokens.
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
        matches: [t, n] with each searching token, -inf where that is not known; weights: [t] of these. What several tokens score together
            is the weighted sum of the best match among them. Per-layer retrieval scores each token by itself: t is 1.
    """

    positions: Tensor
    retrieved: Tensor
    long_term: Tensor
    matches: Tensor
    weights: Tensor

    def scores(self, group: Tensor, count: int) -> Tensor:
        """[count] scores of groups of tokens, -inf where a group has no match.

        Args:
            group: [n] number of each token's group.
        """
        best = torch.full((self.matches.shape[0], count), float("-inf"))
        return self.weights @ best.scatter_reduce(1, group.expand_as(self.matches), self.matches, "amax")


def prefix_tokens(memory: Memory, results: Sequence[RetrievalResult]) -> list[PrefixTokens]:
    """What stands between BOS and the prompt: one entry for all layers, or one per layer where they differ.

    Args:
        results: of one prompt, from ``Retrieved.layers``; empty where nothing was retrieved.
    """
    short, found = memory.placement.rows, []
    for layer in range(max(len(results), short.shape[0])):
        group = layer if short.shape[0] > 1 else 0
        result = results[layer if len(results) > 1 else 0] if results else None
        found.append(_of_layer(memory, group, result))
    return found


def _of_layer(memory: Memory, group: int, result: RetrievalResult | None) -> PrefixTokens:
    """The tokens of one drop group, with what was retrieved for it."""
    short = memory.placement.rows[group]
    ranks, stays = torch.arange(short.shape[0]), torch.ones(short.shape[0], dtype=torch.bool)
    if result is None:
        return PrefixTokens(short, ~stays, ~stays, torch.full((1, len(short)), float("-inf")), torch.ones(1))
    stays[result.short] = False
    left = ranks[stays]
    older = 0 if result.behind is None else max(0, left.shape[0] - result.behind)
    stored = len(short) + torch.arange(result.positions.shape[0])  # numbers of long-term tokens behind those of short-term ones
    chosen = torch.cat([stored, result.short])
    chosen = chosen if result.order is None else chosen[result.order]
    order = torch.cat([left[:older], chosen, left[older:]])
    retrieved = torch.zeros(order.shape, dtype=torch.bool)
    retrieved[older : older + chosen.shape[0]] = True
    matches, weights = _matches(memory, result)
    return PrefixTokens(torch.cat([short, result.positions])[order], retrieved, order >= len(short), matches[:, order], weights)


def _matches(memory: Memory, result: RetrievalResult) -> tuple[Tensor, Tensor]:
    """Matches [t, n + k] of short-term tokens by rank and of those retrieved from long-term memory, with the weights [t]."""
    if result.match is not None:
        pool = memory.short_term
        keys = [pool.at_slots(pool.order, ("search",))["search"][0].float().cpu()]
        if result.indices.numel():
            keys.append(memory.long_term.gather(0, result.indices, ("search",))["search"].float().cpu())
        matches, weights = result.match(torch.cat(keys))
        return matches.cpu(), weights.cpu()
    scores = torch.full((len(memory.short_term) + result.indices.shape[0],), float("-inf"))
    if result.scores is not None:
        known = result.indices if result.candidates is None else torch.searchsorted(result.candidates, result.indices)
        scores[len(memory.short_term) :] = result.scores[known].float().cpu()
    return scores[None], torch.ones(1)
