"""Late-interaction scores of all windows of a memory, or of a few candidates among them. Changes no memory, chooses nothing.

Legend: B prompts of one memory, T prompt tokens, F key width, m blocks in the order of the text, c candidates, n blocks they cover.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mplus.index.pca_sketch import PcaSketch
from mplus.index.pieces import recut
from mplus.memory.memory import Memory
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.device_keys import PIECE_ROWS, keys_on
from mplus.retrieval.read_plan import best_places

if TYPE_CHECKING:
    from mplus.retrieval.late_interaction import LateInteractionRetriever

log = logging.getLogger(__name__)

TOP_WEIGHTED = 8
"""Prompt tokens, those of most weight, by which candidates are chosen; they carry 0.83 of all weight (decision 0020)."""


def of_all(
    retriever: LateInteractionRetriever, memory: Memory, table: BlockTable, features: list[Tensor], text_BT: Tensor
) -> Tensor:
    """[B, m] scores of all windows in the order of the text, float32 on the CPU."""
    block = table.block
    with torch.no_grad():
        query, weight = retriever.queries(features, text_BT)
        parts = [retriever.maxsim(query, part, block) for part in keys_on(memory.long_term, 0, query.device, block=block)]
        if table.short:
            parts.append(retriever.maxsim(query, _short_keys(memory, query.device), block))
        match = torch.cat(parts, -1)[..., table.numbers.to(query.device)]
        return retriever.window_scores(match, weight, table.is_contiguous).cpu()


def of_candidates(
    retriever: LateInteractionRetriever,
    memory: Memory,
    table: BlockTable,
    index: PcaSketch,
    features: list[Tensor],
    text_BT: Tensor,
) -> Tensor:
    """[B, m] as ``of_all`` gives, for candidates; -inf elsewhere.

    Candidates are the windows whose sketches score best, ``candidates_per_token`` times the tokens to be read, and every window
    that holds a short-term block or one that is not indexed yet.
    """
    block, window = table.block, retriever.window
    with torch.no_grad():
        query, weight = retriever.queries(features, text_BT)
        always = _reaching(table.numbers >= len(index) // block, window)
        budget = memory.geometry.sizes.ltm_read_tokens // block
        count = min(max(budget, -(-budget * index.candidates_per_token // window)), int((~always).sum()))
        out = torch.full((query.shape[0], table.numbers.shape[0]), float("-inf"), dtype=torch.float32, device="cpu")
        for row, text in enumerate(text_BT):
            own = query[row, text][None], weight[row, text][None]  # without padding: as if the prompt were alone
            about = _about(retriever, memory, table, index, *own)
            chosen = always.clone()
            chosen[best_places(about.masked_fill(always, float("-inf")), count)] = True
            windows = chosen.nonzero()[:, 0]
            out[row, windows] = _exact(retriever, memory, table, windows, *own)
            log.debug("%d of %d windows are candidates", windows.shape[0], len(table.positions))
    return out


def _about(
    retriever: LateInteractionRetriever, memory: Memory, table: BlockTable, index: PcaSketch, query: Tensor, weight: Tensor
) -> Tensor:
    """[m] scores of all windows by sketches and by the prompt's top-weighted tokens, on the CPU."""
    block = table.block
    top = best_places(weight[0], TOP_WEIGHTED)
    query, weight = query[:, top], weight[:, top].float().cpu()
    parts = [index.maxsim(query[0])]
    fresh = recut(memory.long_term.search_parts(0, len(index)), max(1, PIECE_ROWS // block) * block)
    for keys in (*fresh, *([_short_keys(memory, query.device)] if table.short else [])):
        parts.append(retriever.maxsim(query, keys.to(query.device), block)[0].float().cpu())
    match = torch.cat(parts, -1)[:, table.numbers]
    return retriever.window_scores(match[None], weight, table.is_contiguous)[0]


def _exact(
    retriever: LateInteractionRetriever, memory: Memory, table: BlockTable, windows: Tensor, query: Tensor, weight: Tensor
) -> Tensor:
    """[c] scores of the windows that begin at blocks `windows` [c] of the text, as in ``of_all``."""
    block = table.block
    blocks, is_contiguous = _covered(table, windows, retriever.window)
    numbers, order = table.numbers[blocks].sort()  # in the order of the store, short-term memory behind it
    stored = numbers[numbers < table.long]
    held = memory.long_term.gather(0, table.rows(stored), ("search",))["search"]
    parts = [retriever.maxsim(query, held.to(query.device), block)]
    if table.short:
        short = retriever.maxsim(query, _short_keys(memory, query.device), block)
        parts.append(short[..., (numbers[len(stored) :] - table.long).to(query.device)])
    match = torch.empty_like(joined := torch.cat(parts, -1))
    match[..., order.to(query.device)] = joined
    scores = retriever.window_scores(match, weight, is_contiguous)[0].cpu()
    return scores[torch.searchsorted(blocks, windows)]


def keys_of(memory: Memory, table: BlockTable, windows: Tensor, window: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the windows that begin at blocks `windows` [c] of the text are made of.

    Returns:
        the blocks [n] they cover, in the order of the text, whether each is followed by its neighbour [n], and the search keys [k, F] or [k, r, F] of
        their rows on the CPU; only the last block may have fewer rows than the others.
    """
    blocks, is_contiguous = _covered(table, windows, window)
    rows = table.rows(table.numbers[blocks])
    stored = rows < table.long * table.block
    held = memory.long_term.gather(0, rows[stored], ("search",))["search"]
    if not table.short:
        return blocks, is_contiguous, held
    short = _short_keys(memory, held.device)
    rows = rows[rows < table.long * table.block + short.shape[0]]
    stored = rows < table.long * table.block
    keys = held.new_empty(rows.shape[0], *held.shape[1:])
    keys[stored], keys[~stored] = held, short[rows[~stored] - table.long * table.block].to(held)
    return blocks, is_contiguous, keys


def _covered(table: BlockTable, windows: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Blocks [n] that some windows cover, in the order of the text, and whether each is followed by its neighbour."""
    total = table.numbers.shape[0]
    wanted = torch.zeros(total + window, dtype=torch.bool, device="cpu")
    for step in range(window):
        wanted[windows + step] = True
    blocks = wanted[:total].nonzero()[:, 0]
    follows = torch.cat([blocks.diff() == 1, torch.zeros(1, dtype=torch.bool, device="cpu")])
    return blocks, follows & table.is_contiguous[blocks]


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
