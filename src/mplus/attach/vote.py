"""Scores of all windows of a memory, or of a few candidates among them. Changes no memory, chooses nothing.

Legend: B prompts of one memory, T prompt tokens, F key width, m blocks in the order of the text, c candidates, n blocks they cover.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from mplus.attach.places import Places
from mplus.attach.resident import in_pieces, keys_on
from mplus.memory.index.sketch import BlockSketch
from mplus.memory.memory import Memory
from mplus.retriever import VoteRetriever, best_places

log = logging.getLogger(__name__)

LOUDEST = 8
"""Prompt tokens, those of most weight, by which candidates are chosen; they carry 0.83 of all weight (decision 0020)."""


def vote(retriever: VoteRetriever, memory: Memory, places: Places, features: list[Tensor], text_BT: Tensor) -> Tensor:
    """[B, m] scores of all blocks in the order of the text, float32 on the CPU."""
    block = memory.geometry.block_tokens
    with torch.no_grad():
        query, weight = retriever.queries(features, text_BT)
        pieces = in_pieces(keys_on(memory.long_term, 0, query.device), block=block)
        parts = [retriever.matches(query, part, block) for part in pieces]
        if places.short:
            parts.append(retriever.matches(query, _short_keys(memory, query.device), block))
        match = torch.cat(parts, -1)[..., places.in_text.to(query.device)]
        return retriever.window_scores(match, weight, places.follows).cpu()


def vote_on_candidates(
    retriever: VoteRetriever, memory: Memory, places: Places, summaries: BlockSketch, features: list[Tensor], text_BT: Tensor
) -> Tensor:
    """[B, m] as ``vote`` gives, for candidates; -inf elsewhere.

    Candidates are the windows whose sketches score best, ``candidates_per_token`` times the tokens to be read, and every window
    that holds a short-term block or one that is not sketched yet.
    """
    geometry = memory.geometry
    block, window = geometry.block_tokens, retriever.window
    with torch.no_grad():
        query, weight = retriever.queries(features, text_BT)
        always = _reaching(places.in_text >= len(summaries) // block, window)
        budget = geometry.ltm_read_tokens // block
        count = min(max(budget, -(-budget * summaries.candidates_per_token // window)), int((~always).sum()))
        out = torch.full((query.shape[0], places.in_text.shape[0]), float("-inf"), dtype=torch.float32, device="cpu")
        for row, text in enumerate(text_BT):
            own = query[row, text][None], weight[row, text][None]  # without padding: as if the prompt were alone
            about = _about(retriever, memory, places, summaries, *own)
            chosen = always.clone()
            chosen[best_places(about.masked_fill(always, float("-inf")), count)] = True
            windows = chosen.nonzero()[:, 0]
            out[row, windows] = _exact(retriever, memory, places, windows, *own)
            log.debug("vote: %d of %d windows are candidates", windows.shape[0], len(places.ids))
    return out


def _about(
    retriever: VoteRetriever, memory: Memory, places: Places, summaries: BlockSketch, query: Tensor, weight: Tensor
) -> Tensor:
    """[m] scores of all windows by sketches and by the prompt's loudest tokens, on the CPU."""
    block = memory.geometry.block_tokens
    loudest = best_places(weight[0], LOUDEST)
    query, weight = query[:, loudest], weight[:, loudest].float().cpu()
    parts = [summaries.matches(query[0])]
    fresh = in_pieces(memory.long_term.search_parts(0, len(summaries)), block=block)
    for keys in (*fresh, *([_short_keys(memory, query.device)] if places.short else [])):
        parts.append(retriever.matches(query, keys.to(query.device), block)[0].float().cpu())
    match = torch.cat(parts, -1)[:, places.in_text]
    return retriever.window_scores(match[None], weight, places.follows)[0]


def _exact(retriever: VoteRetriever, memory: Memory, places: Places, windows: Tensor, query: Tensor, weight: Tensor) -> Tensor:
    """[c] scores of the windows that begin at blocks `windows` [c] of the text, as in ``vote``."""
    block, total = memory.geometry.block_tokens, places.in_text.shape[0]
    wanted = torch.zeros(total + retriever.window, dtype=torch.bool, device="cpu")
    for step in range(retriever.window):
        wanted[windows + step] = True
    blocks = wanted[:total].nonzero()[:, 0]  # [n] in the order of the text
    follows = torch.cat([blocks.diff() == 1, torch.zeros(1, dtype=torch.bool, device="cpu")]) & places.follows[blocks]
    numbers, order = places.in_text[blocks].sort()  # in the order of the store, the pool behind it
    stored = numbers[numbers < places.long]
    rows = (stored[:, None] * block + torch.arange(block, device="cpu")).flatten()
    parts = [retriever.matches(query, memory.long_term.gather(0, rows, ("search",))["search"].to(query.device), block)]
    if places.short:
        short = retriever.matches(query, _short_keys(memory, query.device), block)
        parts.append(short[..., (numbers[len(stored) :] - places.long).to(query.device)])
    match = torch.empty_like(joined := torch.cat(parts, -1))
    match[..., order.to(query.device)] = joined
    scores = retriever.window_scores(match, weight, follows)[0].cpu()
    return scores[torch.searchsorted(blocks, windows)]


def _reaching(marked_m: Tensor, window: int) -> Tensor:
    """[m] whether the window that begins at a block holds a marked one."""
    out = marked_m.clone()
    for step in range(1, window):
        out[:-step] |= marked_m[step:]
    return out


def _short_keys(memory: Memory, device: torch.device) -> Tensor:
    """Search keys [n, F] of short-term memory, oldest first."""
    keys = memory.short_term.rows["search"][0]
    return keys[memory.short_term.order[0].to(keys.device)].to(device)
