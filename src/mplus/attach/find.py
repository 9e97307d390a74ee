"""Choosing which long-term tokens a prompt reads. Changes no memory.

Legend: b prompts of one memory, T prompt tokens, D width, M long-term tokens, k chosen.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from functools import partial
from random import Random

import torch
from torch import Tensor

from mplus.attach.cache import PrefixCache, passed
from mplus.attach.drawn import Found
from mplus.attach.hooks import Enough, Hooks
from mplus.attach.parts import Attached
from mplus.attach.places import Places, recent_tokens
from mplus.attach.resident import in_pieces, keys_on
from mplus.attach.vote import vote, vote_on_candidates
from mplus.memory.index.levels import KeyLevels, Score
from mplus.memory.index.sketch import BlockSketch
from mplus.memory.memory import Memory
from mplus.retriever import (
    LayerRetriever,
    VoteRetriever,
    best_places,
    best_span_last,
    choose_blocks,
    oldest_first,
    repeated_oldest_first,
)

log = logging.getLogger(__name__)


def planned_tokens(memory: Memory) -> int:
    """How many long-term tokens a read will attach; the same in all layers, known before any layer runs."""
    geometry, longterm = memory.geometry, memory.long_term
    if not geometry.reads_ltm or longterm.smallest == 0:
        return 0
    if geometry.small_ltm == "repeat":
        return geometry.ltm_read_tokens
    return min(geometry.ltm_read_tokens, longterm.smallest)


def searches(memory: Memory) -> bool:
    """Whether anything is found for a prompt at all."""
    if _finds_short_term(memory):
        return memory.geometry.reads_ltm and len(memory.short_term) > 0
    return planned_tokens(memory) > 0


def _finds_short_term(memory: Memory) -> bool:
    """Whether short-term tokens may be found too; what is not chosen by score is taken from long-term memory alone."""
    return memory.geometry.read_order == "score" and memory.geometry.choice == "best"


def _without_scores(memory: Memory, total: int, count: int, layer: int = 0) -> Tensor:
    """Which `count` of `total` tokens or blocks, ascending from oldest to newest, are read where no score decides.

    `recent` are the last; `random` ones are drawn by the memory's seed and how much it has read, so that reading twice gives
    the same, every layer of per-layer retrieval draws its own, and reading leaves the memory's own generator alone.
    """
    if memory.geometry.choice == "recent" or total <= count:
        return torch.arange(max(0, total - count), total, device="cpu")
    draw = Random(f"mplus random choice {memory.seed} {memory.now} {layer}")
    return torch.tensor(sorted(draw.sample(range(total), count)), dtype=torch.int64, device="cpu")


def find_in_layer(
    attached: Attached, memory: Memory, layer: int, normed_BTD: Tensor, text_BT: Tensor, *, exact: bool = False
) -> list[Found]:
    """Each prompt's tokens of one layer (paper section 3.2).

    Args:
        normed_BTD: the prompts' hidden states behind the layer's input norm.
        text_BT: True at the prompt tokens that search.
        exact: score every token, however many there are (``Geometry.search`` otherwise).
    """
    geometry, longterm = memory.geometry, memory.long_term
    store = longterm.stores[layer]
    merged = longterm.merged(layer)
    if geometry.small_ltm == "repeat" and merged < geometry.ltm_read_tokens:
        ages = memory.ages(store.column("birth"))
        index = repeated_oldest_first(ages, max(1, merged), geometry.ltm_read_tokens)
        return [Found(index, ages[index], None)] * normed_BTD.shape[0]
    if geometry.choice != "best":
        ages = memory.ages(store.column("birth"))
        index = oldest_first(ages)[_without_scores(memory, len(ages), planned_tokens(memory), layer)]
        return [Found(index, ages[index], None)] * normed_BTD.shape[0]
    assert isinstance(attached.retriever, LayerRetriever)
    queries = attached.retriever.queries(layer, normed_BTD)
    own = [query[text] for query, text in zip(queries, text_BT, strict=True)]  # a prompt is scored as if it were alone
    summaries = None if exact or geometry.search == "exact" else longterm.summaries_of(layer)
    if not isinstance(summaries, KeyLevels):
        pieces = in_pieces(keys_on(longterm, layer, queries.device), attached.engine.scores_in_pieces)
        parts = [[_score_one(attached.retriever, query, keys) for query in own] for keys in pieces]
        return [_best_of(memory, layer, torch.cat(scores), None) for scores in zip(*parts, strict=True)]
    found = []
    for query in own:
        score = partial(_score_one, attached.retriever, query)
        rows = candidates_in_layer(memory, layer, summaries, score)
        found.append(_best_of(memory, layer, score(longterm.gather(layer, rows, ("search",))["search"]), rows))
    return found


def candidates_in_layer(memory: Memory, layer: int, summaries: KeyLevels, score: Score) -> Tensor:
    """[c] ascending places of the tokens that one prompt judges exactly: the best by a stand-in for the score, and all not yet summarised."""
    store, read = memory.long_term.stores[layer], planned_tokens(memory)
    about = summaries.candidates(score, read * summaries.candidates_per_token)
    rows = torch.cat([about, torch.arange(len(summaries), len(store), device="cpu")])
    if rows.shape[0] < read:  # the sample promised more than there are
        return torch.arange(len(store), device="cpu")
    log.debug("layer %d: %d of %d tokens are candidates", layer, rows.shape[0], len(store))
    return rows


def _score_one(retriever: LayerRetriever, query_TR: Tensor, keys_MR: Tensor) -> Tensor:
    """One prompt's scores [M], float32."""
    every = query_TR.new_ones(1, query_TR.shape[0], dtype=torch.bool)
    return retriever.chances(query_TR[None], every, keys_MR.to(query_TR.device))[0]


def _best_of(memory: Memory, layer: int, scores: Tensor, rows: Tensor | None) -> Found:
    """The best of the scored tokens, oldest first; `rows` are their places in the store, None: all of them."""
    best = best_places(scores, planned_tokens(memory)).sort().values.cpu()
    index = best if rows is None else rows[best]
    ages = memory.ages(memory.long_term.gather(layer, index, ("birth",))["birth"])
    order = oldest_first(ages)
    return Found(index[order], ages[order], scores, candidates=rows)


def prompt_features(attached: Attached, ids_BT: Tensor, text_BT: Tensor) -> list[Tensor]:
    """Normalised hidden states entering the voting layers, V tensors [B, T, D], of a pass that sees BOS and the query only.

    Args:
        ids_BT, text_BT: what searches (``mplus.text.search_query``), left-padded, and False at padding.

    The bare base runs: what is searched for depends neither on the memory nor on the read adapter.
    """
    decoder, retriever = attached.decoder, attached.retriever
    assert isinstance(retriever, VoteRetriever)
    taken: dict[int, Tensor] = {}
    last = max(retriever.voting)

    def attend(layer: int, normed: Tensor) -> None:
        if layer in retriever.voting:
            taken[layer] = normed
        if layer == last:
            raise Enough
        keys, values = (part[None].transpose(1, 2).expand(normed.shape[0], -1, -1, -1) for part in bos_kv[layer])
        cache.at(layer).fill(keys, values)

    bos_kv = attached.bos_kv(None, last)
    cache = PrefixCache(decoder.depth, 1, room=ids_BT.shape[1])
    with torch.no_grad(), attached.adapters.on(None), Hooks() as hooks:
        for layer in range(last + 1):
            hooks.before_attention(decoder, layer, partial(attend, layer))
        mask = torch.cat([text_BT.new_ones(text_BT.shape[0], 1), text_BT], 1).long()
        positions = (mask.cumsum(1) - 1)[:, 1:].clamp(min=0)
        with contextlib.suppress(Enough):
            decoder.body(input_ids=ids_BT, attention_mask=mask, position_ids=positions, use_cache=True, **passed(cache))
    return [taken[layer] for layer in retriever.voting]


def find_by_vote(
    attached: Attached, memory: Memory, features: list[Tensor], text_BT: Tensor, *, exact: bool = False
) -> list[Found]:
    """The blocks of neighbouring tokens that each query finds, the same in all layers.

    With ``read_order="score"`` short-term memory is searched with the long-term one, as one text: a passage of which half has
    been dropped is judged and read as a whole. Where the best place of all is among the newest ``recent_tokens``, these stay
    where they belong, whole and right before the prompt, and what else is found stands before them. Where no window's vote
    reaches ``certain_score``, the prompt is probably no question about the memory: all short-term tokens stay where they
    belong, and what is found among long-term ones stands before them. With a ``choice`` other than "best" nothing is scored: blocks of long-term
    memory are read, oldest first.

    Args:
        exact: score every window, however many there are; else ``Geometry.search`` says when a few candidates are enough.
    """
    geometry = memory.geometry
    places = Places.of(memory, with_short_term=_finds_short_term(memory))
    budget = geometry.ltm_read_tokens // geometry.block_tokens
    if geometry.choice != "best":
        blocks = _without_scores(memory, places.long, budget)
        return [places.found(blocks, memory, None)] * text_BT.shape[0]
    table: Tensor | None = None
    certain = [True] * text_BT.shape[0]
    recent = recent_tokens(memory.short_term.births[0], memory.now, geometry)
    retriever = attached.retriever
    assert isinstance(retriever, VoteRetriever)
    if places.long > budget or geometry.read_order == "score":
        summaries = None if exact or geometry.search == "exact" else memory.long_term.summaries_of(0)
        if isinstance(summaries, BlockSketch):
            table = vote_on_candidates(retriever, memory, places, summaries, features, text_BT)
        else:
            table = vote(retriever, memory, places, features, text_BT)
        if geometry.certain_score is not None and table.shape[1]:
            certain = (table.amax(1) >= geometry.certain_score).tolist()
    found = []
    for row in range(text_BT.shape[0]):
        if table is None:
            found.append(places.found(torch.arange(places.ids.shape[0], device="cpu"), memory, None))
            continue
        behind = places.behind(table[row], recent, len(memory.short_term), certain=certain[row])
        searched = (places.in_text < places.long + places.short - -(-behind // geometry.block_tokens)).nonzero()[:, 0]
        scores, ids = table[row, searched], places.ids[searched]
        blocks = choose_blocks(scores, ids, budget, geometry.neighbour_blocks, retriever.window)
        if geometry.read_order == "score":
            blocks = best_span_last(blocks, scores, ids)
        found.append(replace(places.found(searched[blocks], memory, table[row]), behind=behind))
    log.debug("vote: %d of %d blocks for %d prompts", min(budget, len(places.ids)), len(places.ids), text_BT.shape[0])
    return found
