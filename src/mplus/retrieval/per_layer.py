"""Retrieval in each layer by itself (paper section 3.2): the tokens with the best mean sigmoid scores. Changes no memory.

Legend: B prompts, T prompt tokens, M long-term tokens of a layer, L layers, D width, R key width.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mplus.index.int8_keys import Int8Keys, Score
from mplus.memory.memory import Memory
from mplus.retrieval.device_keys import keys_on
from mplus.retrieval.projectors import perceptron
from mplus.retrieval.protocol import planned_tokens
from mplus.retrieval.read_plan import best_places
from mplus.retrieval.result import RetrievalResult

log = logging.getLogger(__name__)


class PerLayerRetriever(nn.Module):
    """Projectors of each layer, as in the published models.

    Args:
        layers: L.
        width: D.
        key_width: R.
        depth: 2, or 1 for a single matrix (``num_selector_layers`` of the published config).
    """

    in_each_layer = True

    def __init__(self, layers: int, width: int, key_width: int, depth: int = 2) -> None:
        super().__init__()
        self.layers = tuple(range(layers))
        self.key_width = self.search_width = key_width
        self.query_proj = nn.ModuleList(perceptron(width, key_width, depth) for _ in range(layers))
        self.key_proj = nn.ModuleList(perceptron(width, key_width, depth) for _ in range(layers))

    @property
    def spec(self) -> dict[str, Any]:
        """See ``Retriever``."""
        return {"kind": "per_layer", "key_width": self.key_width}

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def keys(self, layer: int, normed: Tensor) -> Tensor:
        """Keys [..., R] of memory rows [..., D] that went through the layer's input norm."""
        out: Tensor = self.key_proj[layer](normed)
        return out

    def search_keys(self, normed: Mapping[int, Tensor]) -> Tensor:
        """See ``Retriever``: [B, L, n, R]."""
        return torch.stack([self.keys(layer, normed[layer]) for layer in sorted(normed)], 1)

    def queries(self, layer: int, normed_BTD: Tensor) -> Tensor:
        """Query vectors [B, T, R] of prompts, float32."""
        out: Tensor = self.query_proj[layer](normed_BTD)
        return out.float()

    def scores(self, layer: int, normed_BTD: Tensor, text_BT: Tensor, keys_MR: Tensor) -> Tensor:
        """Mean over the prompt's tokens of sigmoid(q . k), float32 [B, M]; `text_BT` is False at padding."""
        return mean_sigmoid_scores(self.queries(layer, normed_BTD), text_BT, keys_MR)

    # -- search ----------------------------------------------------------------------------------------------------

    def can_search(self, memory: Memory) -> bool:
        """See ``Retriever``."""
        return planned_tokens(memory) > 0

    def search(
        self, memory: Memory, normed: Mapping[int, Tensor], text_BT: Tensor, *, exact: bool = False
    ) -> list[RetrievalResult]:
        """Each prompt's tokens of the one layer in `normed`, oldest first; see ``Retriever``."""
        ((layer, normed_BTD),) = normed.items()
        longterm, merged = memory.long_term, memory.long_term.merged(layer)
        if memory.geometry.quirks.small_ltm == "repeat" and merged < memory.geometry.sizes.ltm_read_tokens:
            ages = memory.ages(longterm.births(layer))
            rows = repeated_oldest_first(ages, max(1, merged), memory.geometry.sizes.ltm_read_tokens)
            return [RetrievalResult(rows, ages[rows], None, positions=longterm.rows(layer)[rows])] * normed_BTD.shape[0]
        queries = self.queries(layer, normed_BTD)
        own = [query[text] for query, text in zip(queries, text_BT, strict=True)]  # a prompt is scored as if it were alone
        index = None if exact or memory.geometry.read.search == "exact" else longterm.index_of(layer)
        if not isinstance(index, Int8Keys):
            pieces = keys_on(longterm, layer, queries.device)
            parts = [[_scores_alone(query, keys) for query in own] for keys in pieces]
            return [_best_of(memory, layer, torch.cat(scores), None) for scores in zip(*parts, strict=True)]
        out = []
        for query in own:
            score = partial(_scores_alone, query)
            rows = candidates_in_layer(memory, layer, index, score)
            out.append(_best_of(memory, layer, score(longterm.gather(layer, rows, ("search",))["search"]), rows))
        return out


def mean_sigmoid_scores(queries_BTR: Tensor, text_BT: Tensor, keys_MR: Tensor) -> Tensor:
    """Mean over the prompt's tokens of sigmoid(q . k), [B, M]; `text_BT` is False at padding."""
    chance = torch.sigmoid(queries_BTR @ keys_MR.to(queries_BTR).T)
    weight = text_BT.to(chance)[:, :, None]
    return (chance * weight).sum(1) / weight.sum(1).clamp(min=1)


def candidates_in_layer(memory: Memory, layer: int, index: Int8Keys, score: Score) -> Tensor:
    """[c] ascending places of the tokens that one prompt scores exactly: the best by a surrogate, and all not yet indexed."""
    held, read = memory.long_term.tokens(layer), planned_tokens(memory)
    about = index.candidates(score, read * index.candidates_per_token)
    rows = torch.cat([about, torch.arange(len(index), held, device="cpu")])
    if rows.shape[0] < read:  # the sample promised more than there are
        return torch.arange(held, device="cpu")
    log.debug("layer %d: %d of %d tokens are candidates", layer, rows.shape[0], held)
    return rows


def _scores_alone(query_TR: Tensor, keys_MR: Tensor) -> Tensor:
    """One prompt's scores [M], float32."""
    every = query_TR.new_ones(1, query_TR.shape[0], dtype=torch.bool)
    return mean_sigmoid_scores(query_TR[None], every, keys_MR.to(query_TR.device))[0]


def _best_of(memory: Memory, layer: int, scores: Tensor, rows: Tensor | None) -> RetrievalResult:
    """The best of the scored tokens, oldest first; `rows` are their places in the store, None: all of them."""
    best = best_places(scores, planned_tokens(memory)).sort().values.cpu()
    index = best if rows is None else rows[best]
    ages = memory.ages(memory.long_term.births(layer)[index])
    order = oldest_first(ages)
    index = index[order]
    return RetrievalResult(index, ages[order], scores, candidates=rows, positions=memory.long_term.rows(layer)[index])


def oldest_first(ages: Tensor) -> Tensor:
    """[k] indices that put ages [k] in descending order; of equal ages the later first (published order)."""
    return torch.argsort(ages, stable=True).flip(0)


def repeated_oldest_first(ages: Tensor, stored: int, count: int) -> Tensor:
    """The published rule for fewer than K0 merged tokens: the last `count` of 0..stored-1 repeated, ordered by age."""
    repeats = -(-count // stored)
    index = torch.arange(stored, device="cpu").repeat(repeats)[-count:]
    by_age = torch.argsort(ages[index], stable=True)
    return index[by_age].flip(0)
