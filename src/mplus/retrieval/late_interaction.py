"""Retrieval for all layers at once by late interaction (maxsim) over blocks of neighbouring tokens (ours). Changes no memory.

Legend: B prompts, T prompt tokens, M long-term tokens, D width, R key width, V layers that make keys, F = V * R, m blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mplus.index.pca_sketch import PcaSketch
from mplus.memory.memory import Memory
from mplus.memory.pooling import best_of_row
from mplus.retrieval import block_scores
from mplus.retrieval.blocks import BlockTable, recency_tail
from mplus.retrieval.projectors import PLAIN, perceptron
from mplus.retrieval.protocol import planned_tokens
from mplus.retrieval.read_plan import LayoutRule, is_confident, plan_read
from mplus.retrieval.result import RetrievalResult
from mplus.retrieval.same_slot import candidates, is_same_slot
from mplus.retrieval.slot_head import REACH, SlotHead
from mplus.settings import Geometry

log = logging.getLogger(__name__)


class LateInteractionRetriever(nn.Module):
    """A few layers score blocks of neighbouring tokens together.

    Each prompt token takes its best match inside a window of neighbouring blocks; a window's score is their weighted sum. With
    ``key_width=None`` nothing is trained: a key is the hidden state minus the layer's mean, at unit length, and all prompt
    tokens count the same (measured floor, RECIPE section 4). Else each layer has the paper's two projectors, their products are
    summed, and a small head weighs the prompt's tokens.

    Args:
        layers: those that make keys, ascending.
        width: D.
        key_width: R per layer, or None.
        window: neighbouring blocks that are scored together, since a sentence seldom ends where a block does (one block: the best
            place right for 0.68 of the questions, two: 0.81, same weights; experiments/LOG.md, ``experiments/finding.py``).
        slot_rank: of a head that tells which windows answer the same (decision 0046); None: the rule of ``same_slot`` tells it.
    """

    in_each_layer = False

    def __init__(
        self,
        layers: tuple[int, ...],
        width: int,
        key_width: int | None = None,
        window: int = 1,
        slot_rank: int | None = None,
    ) -> None:
        super().__init__()
        self.window = window
        self.layers = tuple(layers)
        self.width = width
        self.key_width = key_width
        if key_width is None:
            self.register_buffer("mean", torch.zeros(len(layers), width, **PLAIN))
        else:
            self.query_proj = nn.ModuleList(perceptron(width, key_width) for _ in layers)
            self.key_proj = nn.ModuleList(perceptron(width, key_width) for _ in layers)
            self.weigh = nn.Linear(width, 1, **PLAIN)
            nn.init.zeros_(self.weigh.weight)
            nn.init.zeros_(self.weigh.bias)
            self.scale = nn.Parameter(torch.zeros(len(layers), **PLAIN))
        self.slot_head = None if slot_rank is None else SlotHead(self.search_width, slot_rank)

    @property
    def search_width(self) -> int:
        """F, numbers in one token's search key."""
        return len(self.layers) * (self.key_width or self.width)

    @property
    def spec(self) -> dict[str, Any]:
        """See ``Retriever``."""
        head = {} if self.slot_head is None else {"slot_rank": self.slot_head.rank}
        return {"kind": "vote", "voting": list(self.layers), "key_width": self.key_width, "window": self.window, **head}

    def add_slot_head(self, rank: int) -> None:
        """Give the search a fresh head that tells which windows answer the same."""
        self.slot_head = SlotHead(self.search_width, rank).to(next(self.parameters()))

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def keys(self, features: list[Tensor]) -> Tensor:
        """Search keys [..., F] from the layers' normalised hidden states, V tensors [..., D]."""
        if self.key_width is None:
            return torch.cat([self._centred(place, part) for place, part in enumerate(features)], -1)
        return torch.cat([project(part) for project, part in zip(self.key_proj, features, strict=True)], -1)

    def search_keys(self, normed: Mapping[int, Tensor]) -> Tensor:
        """See ``Retriever``: [B, 1, n, F]."""
        return self.keys([normed[layer] for layer in self.layers])[:, None]

    def queries(self, features: list[Tensor], text_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Query vectors [B, T, F] and token weights [B, T] that sum to 1 over the prompt's own tokens."""
        if self.key_width is None:
            query = torch.cat([self._centred(place, part) for place, part in enumerate(features)], -1)
            logits = torch.zeros(text_BT.shape, dtype=torch.float32, device=query.device)
        else:
            gain = (self.scale.exp() / (self.key_width * len(self.layers)) ** 0.5).to(features[0])
            parts = [
                gain[place] * project(part) for place, (project, part) in enumerate(zip(self.query_proj, features, strict=True))
            ]
            query = torch.cat(parts, -1)
            logits = self.weigh(features[len(features) // 2]).squeeze(-1).float()
        weight = logits.masked_fill(~text_BT, float("-inf")).softmax(-1)
        return query, weight

    def maxsim(self, query_BTF: Tensor, keys_MF: Tensor, block: int) -> Tensor:
        """Each prompt token's best match inside every block of `block` neighbours, [B, T, m]; the last block may be short.

        Args:
            keys_MF: or [M, r, F], where a row has a key for each of its text tokens.
        """
        prompts, tokens, _ = query_BTF.shape
        match = best_of_row(query_BTF.reshape(prompts * tokens, -1) @ keys_MF.to(query_BTF).flatten(0, -2).T, keys_MF)
        missing = -keys_MF.shape[0] % block
        if missing:
            match = functional.pad(match, (0, missing), value=float("-inf"))
        return match.view(prompts, tokens, -1, block).amax(-1)

    def block_scores(
        self, query_BTF: Tensor, weight_BT: Tensor, keys_MF: Tensor, block: int, is_contiguous_m: Tensor | None = None
    ) -> Tensor:
        """Scores [B, m] of the windows that begin at each block of keys [M, F]; see ``maxsim`` and ``window_scores``."""
        return self.window_scores(self.maxsim(query_BTF, keys_MF, block), weight_BT, is_contiguous_m)

    def window_scores(self, match_BTm: Tensor, weight_BT: Tensor, is_contiguous_m: Tensor | None = None) -> Tensor:
        """Score of the window that begins at each block, float32 [B, m]: sum_t w_t max_j q_t . k_j over the window's tokens.

        Args:
            match_BTm: from ``maxsim``, blocks in the order of the text.
            weight_BT: from ``queries``.
            is_contiguous_m: False where the next block is not the text's next one; None: all of them are.
        """
        return torch.einsum("btm,bt->bm", self.window_match(match_BTm, is_contiguous_m).float(), weight_BT.float())

    def window_match(self, match_BTm: Tensor, is_contiguous_m: Tensor | None = None) -> Tensor:
        """Best match [B, T, m] of each prompt token in the window that begins at each block; arguments as for ``window_scores``."""
        best = match_BTm
        for step in range(1, self.window):
            shifted = match_BTm[..., step:]
            if is_contiguous_m is not None:
                broken = ~torch.stack([is_contiguous_m[start : start + shifted.shape[-1]] for start in range(step)]).all(0)
                shifted = shifted.masked_fill(broken.to(shifted.device), float("-inf"))
            best = torch.maximum(best, functional.pad(shifted, (0, step), value=float("-inf")))
        return best

    def match(self, features: list[Tensor], text_BT: Tensor, row: int, keys_MF: Tensor) -> tuple[Tensor, Tensor]:
        """Match [t, M] of each searching token of one prompt with each row, and these tokens' weights [t], float32."""
        query, weight = self.searching(features, text_BT, row)
        with torch.no_grad():
            keys = keys_MF.to(query.device).float()
            return best_of_row(query @ keys.flatten(0, -2).T, keys), weight

    def searching(self, features: list[Tensor], text_BT: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """Query vectors [t, F] of the searching tokens of one prompt and their weights [t], float32."""
        own = text_BT[row]
        with torch.no_grad():
            query, weight = self.queries([part[row : row + 1, own] for part in features], own[own][None])
        return query[0].float(), weight[0].float()

    def own_match(self, features: list[Tensor], text_BT: Tensor, row: int) -> Tensor:
        """Match [t] of each searching token of one prompt with its own search key, float32: as good as a match of its kind gets."""
        own = text_BT[row]
        with torch.no_grad():
            keys = self.keys([part[row, own] for part in features])
        return self.match(features, text_BT, row, keys)[0].diagonal()

    def _centred(self, place: int, part: Tensor) -> Tensor:
        mean = self.get_buffer("mean")[place]
        return functional.normalize(part.float() - mean.float(), dim=-1).to(part.dtype)

    # -- search ----------------------------------------------------------------------------------------------------

    def can_search(self, memory: Memory) -> bool:
        """See ``Retriever``."""
        if memory.geometry.read.beside_prompt is not None:
            return memory.geometry.sizes.reads_ltm and len(memory.short_term) > 0
        return planned_tokens(memory) > 0

    def rule(self, geometry: Geometry, *, recency_tail: int) -> LayoutRule:
        """Budget and layout of a read, in blocks.

        Args:
            recency_tail: newest short-term tokens that may stay whole; see ``blocks.recency_tail``.
        """
        block = geometry.read.block_tokens
        return LayoutRule(
            budget=geometry.sizes.ltm_read_tokens // block,
            neighbours=geometry.read.neighbour_blocks,
            window=self.window,
            order=geometry.read.order,
            recency_tail=-(-recency_tail // block),
            min_confidence=geometry.read.min_confidence,
            same_slot=geometry.read.same_slot,
            slot_tolerance=geometry.read.slot_tolerance,
        )

    def search(
        self,
        memory: Memory,
        normed: Mapping[int, Tensor],
        text_BT: Tensor,
        *,
        exact: bool = False,
        past: Sequence[bool] = (),
        before: Sequence[RetrievalResult] = (),
    ) -> list[RetrievalResult]:
        """Blocks of neighbouring tokens for each prompt, the same in all layers; see ``Retriever``.

        With ``read_order="score"`` short-term memory is searched with the long-term one, as one text: a passage of which half has
        been dropped is judged and read as a whole; ``plan_read`` says what stays in its place.

        Args:
            past: prompts that ask for what was: for them the newest of several answers does not stand first.
            before: results of a first round, with the prompts that they were for; `normed` is then of what searches in the second.
        """
        tail = recency_tail(memory.placement.births[0], memory.now, memory.geometry)
        rule = self.rule(memory.geometry, recency_tail=tail)
        table = BlockTable.of(memory, with_short_term=rule.beside_prompt)
        features = [normed[layer] for layer in self.layers]
        rows = range(text_BT.shape[0])
        if not rule.beside_prompt and table.long <= rule.budget:
            plan = plan_read(torch.zeros(table.long, device="cpu"), table.positions, table.is_short_term, rule)
            return [self._matched(table.result(plan, memory, None), features, text_BT, row) for row in rows]
        index = None if exact or memory.geometry.read.search == "exact" else memory.long_term.index_of(0)
        if isinstance(index, PcaSketch):
            scores = block_scores.of_candidates(self, memory, table, index, features, text_BT)
        else:
            scores = block_scores.of_all(self, memory, table, features, text_BT)
        log.debug("%d of %d blocks for %d prompts", min(rule.budget, len(table.positions)), len(table.positions), len(scores))
        if before:
            return [self._again(memory, table, own, rule, first) for own, first in zip(scores, before, strict=True)]
        results = []
        for row, own in zip(rows, scores, strict=True):
            looks = rule.same_slot != "score" and not (past and past[row])
            slot = None
            if looks and self.slot_head is None:
                slot = self._slot(memory, table, own, rule, partial(self.match, features, text_BT, row))
            elif looks:
                slot = self._judged_slot(memory, table, own, rule, partial(self.searching, features, text_BT, row))
            plan = plan_read(own, table.positions, table.is_short_term, rule, slot=slot)
            result = replace(table.result(plan, memory, own), windows=own, slot=slot)
            results.append(self._matched(result, features, text_BT, row))
        return results

    def _again(
        self, memory: Memory, table: BlockTable, scores_m: Tensor, rule: LayoutRule, first: RetrievalResult
    ) -> RetrievalResult:
        """The result of both rounds: scores and matches are those of the first."""
        assert first.windows is not None
        plan = plan_read(first.windows, table.positions, table.is_short_term, rule, slot=first.slot, second=scores_m)
        both = table.result(plan, memory, first.windows)
        return replace(both, match=first.match, own_match=first.own_match, windows=first.windows, slot=first.slot, rounds=2)

    def _matched(self, result: RetrievalResult, features: list[Tensor], text_BT: Tensor, row: int) -> RetrievalResult:
        """A result that can be asked how well each searching token of its prompt matches."""
        own = partial(self.own_match, features, text_BT, row)
        return replace(result, match=partial(self.match, features, text_BT, row), own_match=own)

    def best_window(self, memory: Memory, result: RetrievalResult) -> Tensor:
        """[<=n] numbers of the tokens of the window that scored best, as the ledger knows them; none where nothing was scored."""
        if result.windows is None or not result.windows.numel():
            return torch.empty(0, dtype=torch.int64, device="cpu")
        table = BlockTable.of(memory, with_short_term=memory.geometry.read.beside_prompt is not None)
        first = int(result.windows.argmax())
        return table.tokens_of(memory, torch.arange(first, min(first + self.window, table.numbers.shape[0]), device="cpu"))

    def _slot(
        self,
        memory: Memory,
        table: BlockTable,
        scores_m: Tensor,
        rule: LayoutRule,
        match: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> Tensor | None:
        """[m] the windows that answer the same as the best one, itself among them; None: it stands alone, or none is certain."""
        windows = candidates(scores_m, rule.slot_tolerance)
        if windows.shape[0] < 2 or not is_confident(scores_m, rule):
            return None
        blocks, is_contiguous, keys = block_scores.keys_of(memory, table, windows, self.window)
        found, weight = match(keys)
        by_block = functional.pad(found, (0, -found.shape[1] % table.block), value=float("-inf"))
        by_window = self.window_match(by_block.view(1, found.shape[0], -1, table.block).amax(-1), is_contiguous)[0]
        chosen = by_window[:, torch.searchsorted(blocks, windows)]
        best = int(scores_m[windows].argmax())
        return _marked(windows[is_same_slot(chosen, weight, best, rule.slot_tolerance).cpu()], scores_m)

    def _judged_slot(
        self,
        memory: Memory,
        table: BlockTable,
        scores_m: Tensor,
        rule: LayoutRule,
        searching: Callable[[], tuple[Tensor, Tensor]],
    ) -> Tensor | None:
        """As ``_slot``, by the head."""
        windows = candidates(scores_m, REACH)
        if windows.shape[0] < 2 or not is_confident(scores_m, rule):
            return None
        assert self.slot_head is not None
        blocks, is_contiguous, keys = block_scores.keys_of(memory, table, windows, self.window)
        query, weight = searching()
        rows, held = _rows_of(torch.searchsorted(blocks, windows), is_contiguous, self.window, table.block, keys.shape[0])
        of_rows = keys.to(query.device)[rows.to(query.device)]  # [c, n, F], [c, n, r, F] where a row has several keys
        held = held.to(query.device)
        if of_rows.dim() > 3:
            held = held.repeat_interleave(of_rows.shape[2], 1)
            of_rows = of_rows.flatten(1, 2)
        best = scores_m[windows].argmax().to(query.device)
        with torch.no_grad():
            same = self.slot_head(query[None], weight[None], of_rows[None], held[None], best[None])[0] > 0
        same[best] = True
        return _marked(windows[same.cpu()], scores_m)


def _marked(windows: Tensor, scores_m: Tensor) -> Tensor:
    """[m] True at some windows."""
    slot = torch.zeros(scores_m.shape, dtype=torch.bool, device="cpu")
    slot[windows] = True
    return slot


def _rows_of(places_c: Tensor, is_contiguous: Tensor, window: int, block: int, total: int) -> tuple[Tensor, Tensor]:
    """Rows [c, window * block] of the windows that begin at some of fetched blocks, and whether each belongs to its window.

    Args:
        places_c: the blocks' places among the fetched ones.
        is_contiguous: whether each fetched block is followed by its neighbour.
        total: rows that were fetched.
    """
    steps = places_c[:, None] + torch.arange(window, device="cpu")
    inside = steps < is_contiguous.shape[0]
    joined = torch.ones_like(inside)
    for step in range(1, window):
        joined[:, step] = joined[:, step - 1] & is_contiguous[steps[:, step - 1].clamp(max=is_contiguous.shape[0] - 1)]
    rows = (steps[:, :, None] * block + torch.arange(block, device="cpu")).flatten(1)
    held = (inside & joined).repeat_interleave(block, 1) & (rows < total)
    return rows.clamp(max=total - 1), held
