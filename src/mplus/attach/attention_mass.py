"""Attention that the tokens of an answer give to the slots before the prompt, measured beside its generation. Changes no pass.

Fused attention gives no weights. So the query of each pass' newest token is kept in every layer while an answer is made, and afterwards
its weights are computed from the keys in the cache, for all of them at once.

Legend: B prompts, R rows (samples of one prompt stand together), L layers, P prefix slots, S keys, n queries, H heads, G kv heads,
h = H / G, E head width.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Final

import torch
from torch import Tensor

from mplus.attach.families import rotate
from mplus.attach.hooks import Hooks
from mplus.attach.prefix_pass import PrefixPass

_QUERIES_AT_ONCE: Final = 32


class AttentionMass:
    """Mean attention on each slot, over heads and over the queries that chose an answer's tokens.

    These are the last token of the prompt and every token of the answer but the last. The pass must keep what it has seen, and its rows
    must stay in their order (no beams, nothing taken back).

    Args:
        prefix_pass: the pass of B prompts that is measured.
        ends: token ids that end an answer; what a row does behind one is not counted.
    """

    def __init__(self, prefix_pass: PrefixPass, ends: Collection[int] = ()) -> None:
        self.decoder, self.prefix, self.cache = prefix_pass.decoder, prefix_pass.prefix, prefix_pass.cache
        self.mask = prefix_pass.mask.bool()
        self.ends = torch.tensor(sorted(ends), dtype=torch.int64, device=self.mask.device)
        self._alive: list[Tensor] = []  # [R] per query
        self._queries: list[list[Tensor]] = [[] for _ in range(self.decoder.depth)]  # [R, 1, H, E] before rotation
        self._chooses = False

    def install(self, hooks: Hooks) -> None:
        """Hook the decoder of a pass whose own hooks are on."""
        hooks.before_pass(self.decoder, self._begin)
        for layer in range(self.decoder.depth):
            hooks.after(self.decoder, self.decoder.query_source(layer), partial(self._keep, layer))

    def mean(self) -> Tensor:
        """[B, L, P] float32 on the CPU, after the last pass; a layer's numbers are shares of one, the rest fell on prompt and answer."""
        prompts = self.mask.shape[0]
        if not self._alive:
            return torch.zeros(prompts, self.decoder.depth, self.prefix, device="cpu")
        alive = torch.stack(self._alive, 1)
        counts = alive.view(prompts, -1).sum(1)
        with torch.no_grad():
            sums = torch.stack([self._of_layer(layer, alive) for layer in range(self.decoder.depth)], 1)
        return (sums.view(prompts, -1, *sums.shape[1:]).sum(1) / counts[:, None, None]).cpu()

    def _begin(self, ids: Tensor) -> None:
        """Before a pass over token ids [R, T]: whether its newest token chooses one of the answer, and in which rows."""
        seen = self.cache.at(0).used + ids.shape[1]
        self._chooses = seen >= self.mask.shape[1]  # else a part of the prompt
        if not self._chooses:
            return
        going_on = ids.new_ones(len(ids), dtype=torch.bool)
        self._alive.append(self._alive[-1] & ~torch.isin(ids[:, -1], self.ends) if self._alive else going_on)

    def _keep(self, layer: int, output: Tensor) -> None:
        if self._chooses:
            newest = output[:, -1:].detach().clone()
            self._queries[layer].append(newest.view(len(newest), 1, -1, self.decoder.head_width))

    def _of_layer(self, layer: int, alive: Tensor) -> Tensor:
        """[R, P] sums over the queries of living rows; alive: [R, n]."""
        keys = self.cache.at(layer).keys
        assert keys is not None
        rows, groups, total, width = keys.shape
        prompt = self.mask.shape[1]
        seen = self.mask.repeat_interleave(rows // self.mask.shape[0], 0)
        seen = torch.cat([seen, seen.new_ones(rows, total - prompt)], 1)
        positions = seen.cumsum(1)[:, prompt - 1 :] - 1
        slots, sums = torch.arange(total, device=keys.device), keys.new_zeros(rows, self.prefix, dtype=torch.float32)
        for start in range(0, alive.shape[1], _QUERIES_AT_ONCE):
            stop = min(start + _QUERIES_AT_ONCE, alive.shape[1])
            query = torch.cat(self._queries[layer][start:stop], 1)  # [R, n, H, E]
            query = rotate(query, *self.decoder.rotation(positions[:, start:stop], query))
            query = query.unflatten(2, (groups, -1)).permute(0, 2, 1, 3, 4).flatten(2, 3)  # [R, G, n h, E]
            scores = (query.float() @ keys.float().transpose(-1, -2) * width**-0.5).unflatten(2, (stop - start, -1))
            later = slots > prompt - 1 + torch.arange(start, stop, device=keys.device)[:, None]  # [n, S]
            hidden = ~seen[:, None] | later
            weights = scores.masked_fill(hidden[:, None, :, None], float("-inf")).softmax(-1)[..., : self.prefix]
            sums += (weights.mean((1, 3)) * alive[:, start:stop, None]).sum(1)
        return sums
