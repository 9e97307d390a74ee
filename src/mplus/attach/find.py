"""Choosing which long-term tokens a prompt reads. Changes no memory.

Legend: b prompts of one memory, T prompt tokens, D width, M long-term tokens, k chosen.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mplus.attach.cache import PrefixCache
from mplus.attach.hooks import Enough, Hooks
from mplus.attach.parts import Attached
from mplus.memory.memory import Memory
from mplus.retriever import LayerRetriever, VoteRetriever, best_oldest_first, best_span_last, choose_blocks, repeated_oldest_first

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """Long-term tokens one prompt reads, in reading order (oldest first).

    Attributes:
        indices: [k] places in the store of the layer (or of all layers).
        ages: [k] memory tokens written since.
        scores: score of every token (per layer) or block (shared) of the store, float32; None where none were needed.
    """

    indices: Tensor
    ages: Tensor
    scores: Tensor | None


def planned_tokens(memory: Memory) -> int:
    """How many long-term tokens a read will attach; the same in all layers, known before any layer runs."""
    geometry, longterm = memory.geometry, memory.longterm
    if not geometry.reads_ltm or longterm.smallest == 0:
        return 0
    if geometry.small_ltm == "repeat":
        return geometry.ltm_read_tokens
    return min(geometry.ltm_read_tokens, longterm.smallest)


def find_in_layer(attached: Attached, memory: Memory, layer: int, normed_BTD: Tensor, text_BT: Tensor) -> list[Found]:
    """Each prompt's tokens of one layer (paper section 3.2).

    Args:
        normed_BTD: the prompts' hidden states behind the layer's input norm.
        text_BT: False at padding.
    """
    geometry, longterm = memory.geometry, memory.longterm
    store = longterm.stores[layer]
    ages = memory.ages(store.column("birth"))
    merged = longterm.merged(layer)
    if geometry.small_ltm == "repeat" and merged < geometry.ltm_read_tokens:
        index = repeated_oldest_first(ages, max(1, merged), geometry.ltm_read_tokens)
        return [Found(index, ages[index], None)] * normed_BTD.shape[0]
    assert isinstance(attached.retriever, LayerRetriever)
    scores = []
    for keys in store.parts("search"):
        scores.append(attached.retriever.scores(layer, normed_BTD, text_BT, keys.to(normed_BTD.device)))
    table = torch.cat(scores, 1)
    count = planned_tokens(memory)
    chosen = [best_oldest_first(row, ages, count) for row in table]
    return [Found(index, ages[index], row) for index, row in zip(chosen, table, strict=True)]


def prompt_features(attached: Attached, ids_BT: Tensor, text_BT: Tensor) -> list[Tensor]:
    """Normalised hidden states entering the voting layers, V tensors [B, T, D], of a pass that sees BOS and the prompt only.

    The bare base runs: what is searched for depends neither on the memory nor on the read adapter.
    """
    decoder, retriever = attached.decoder, attached.retriever
    assert isinstance(retriever, VoteRetriever)
    taken: dict[int, Tensor] = {}
    last = max(retriever.voting)

    def attend(layer: int, cache: PrefixCache, normed: Tensor) -> None:
        if layer in retriever.voting:
            taken[layer] = normed
        if layer == last:
            raise Enough
        keys, values = bos_kv[layer]
        shape = (normed.shape[0], -1, -1, -1)
        cache.at(layer).fill(keys.transpose(1, 2).expand(shape), values.transpose(1, 2).expand(shape))

    with torch.no_grad(), attached.adapters.on(None), Hooks() as hooks:
        bos_kv = [
            decoder.project(layer, attached.bos[layer][None, None]) for layer in range(last)
        ]  # position 0: rotation is nothing
        for layer in range(last + 1):
            hooks.before_attention(decoder, layer, partial(attend, layer))
        mask = torch.cat([text_BT.new_ones(text_BT.shape[0], 1), text_BT], 1).long()
        positions = (mask.cumsum(1) - 1)[:, 1:].clamp(min=0)
        cache = PrefixCache(decoder.depth, 1, room=ids_BT.shape[1])
        with contextlib.suppress(Enough):
            decoder.body(input_ids=ids_BT, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    return [taken[layer] for layer in retriever.voting]


def find_by_vote(attached: Attached, memory: Memory, features: list[Tensor], text_BT: Tensor) -> list[Found]:
    """Each prompt's blocks of neighbouring tokens, the same in all layers."""
    geometry = memory.geometry
    store, block = memory.longterm.stores[0], geometry.block_tokens
    births = store.column("birth")
    total = births.shape[0] // block
    budget = geometry.ltm_read_tokens // block
    starts = births[::block]
    in_text = starts.argsort()
    places = torch.div(starts[in_text], block, rounding_mode="floor")
    table: Tensor | None = None
    if total > budget or geometry.read_order == "score":
        retriever = attached.retriever
        assert isinstance(retriever, VoteRetriever)
        with torch.no_grad():
            query, weight = retriever.queries(features, text_BT)
            parts = [retriever.block_scores(query, weight, part.to(query.device), block) for part in store.parts("search")]
        table = torch.cat(parts, 1).cpu()
    found = []
    for row in range(text_BT.shape[0]):
        blocks = in_text
        if table is not None:
            scores = table[row][in_text]
            picked = choose_blocks(scores, places, budget, geometry.neighbour_blocks)
            blocks = in_text[best_span_last(picked, scores, places) if geometry.read_order == "score" else picked]
        index = (blocks[:, None] * block + torch.arange(block)).flatten()
        found.append(Found(index, memory.ages(births[index]), None if table is None else table[row]))
    log.debug("vote: %d of %d blocks for %d prompts", min(budget, total), total, len(found))
    return found
