"""Finding long-term tokens: projectors, scores, choice. Knows tensors, nothing of transformers.

Legend: B prompts, T prompt tokens, M long-term tokens, D width, R key width, V voting layers, F = V * R.

Two ways, behind the same two acts (make keys when a token is written, choose when a prompt is read):

- ``LayerRetriever`` (paper section 3.2): each layer scores its own tokens, ``mean_t sigmoid(f_q(x_t) . f_k(z_j))``.
- ``VoteRetriever`` (ours): a few layers score together, over a pass of the prompt without memory; each prompt token takes
  its best match inside a window of neighbouring blocks, and the windows with the best weighted sum are read in all layers.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

PLAIN: Final[Any] = {"dtype": torch.float32, "device": "cpu"}
"""What a new part is made as, whatever torch's defaults are; whoever opens a model moves it to the decoder."""


def perceptron(width: int, key_width: int, layers: int = 2) -> nn.Module:
    """The paper's projector: D -> 2 R -> R with SiLU, no bias; one matrix when `layers` is 1."""
    if layers == 1:
        return nn.Linear(width, key_width, bias=False, **PLAIN)
    first = nn.Linear(width, 2 * key_width, bias=False, **PLAIN)
    second = nn.Linear(2 * key_width, key_width, bias=False, **PLAIN)
    for part in (first, second):
        nn.init.normal_(part.weight, std=1.2 / part.in_features**0.5)  # small weights sit on a saddle
    return nn.Sequential(first, nn.SiLU(), second)


class LayerRetriever(nn.Module):
    """Per-layer projectors of the published models.

    Args:
        layers: L.
        width: D.
        key_width: R.
        depth: 2, or 1 for a single matrix (``num_selector_layers`` of the published config).
    """

    def __init__(self, layers: int, width: int, key_width: int, depth: int = 2) -> None:
        super().__init__()
        self.key_width = key_width
        self.query_proj = nn.ModuleList(perceptron(width, key_width, depth) for _ in range(layers))
        self.key_proj = nn.ModuleList(perceptron(width, key_width, depth) for _ in range(layers))

    def keys(self, layer: int, normed: Tensor) -> Tensor:
        """Keys [..., R] of memory rows [..., D] that went through the layer's input norm."""
        out: Tensor = self.key_proj[layer](normed)
        return out

    def scores(self, layer: int, normed_BTD: Tensor, text_BT: Tensor, keys_MR: Tensor) -> Tensor:
        """Mean over the prompt's tokens of sigmoid(q . k), float32 [B, M]; `text_BT` is False at padding."""
        return self.chances(self.queries(layer, normed_BTD), text_BT, keys_MR)

    def queries(self, layer: int, normed_BTD: Tensor) -> Tensor:
        """Query vectors [B, T, R] of prompts, float32."""
        out: Tensor = self.query_proj[layer](normed_BTD)
        return out.float()

    @staticmethod
    def chances(queries_BTR: Tensor, text_BT: Tensor, keys_MR: Tensor) -> Tensor:
        """``scores`` of prompts whose query vectors are known."""
        chance = torch.sigmoid(queries_BTR @ keys_MR.to(queries_BTR).T)
        weight = text_BT.to(chance)[:, :, None]
        return (chance * weight).sum(1) / weight.sum(1).clamp(min=1)


def best_places(scores: Tensor, count: int) -> Tensor:
    """[<=count] places of the highest scores [m], highest first; of equal scores the earlier place first.

    ``topk`` leaves open which of equal scores it gives, so what a prompt finds would depend on what it is computed together with.
    """
    count = min(count, scores.shape[0])
    if count < 1:
        return torch.empty(0, dtype=torch.int64, device=scores.device)
    scores = scores.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    least = scores.topk(count).values[-1]
    above = (scores > least).nonzero()[:, 0]
    chosen = torch.cat([above, (scores == least).nonzero()[: count - above.shape[0], 0]])
    return chosen[scores[chosen].argsort(descending=True, stable=True)]


def oldest_first(ages: Tensor) -> Tensor:
    """[k] indices that put ages [k] in descending order; of equal ages the later first (published order)."""
    return torch.argsort(ages, stable=True).flip(0)


def repeated_oldest_first(ages: Tensor, stored: int, count: int) -> Tensor:
    """The published rule for fewer than K0 merged tokens: the last `count` of 0..stored-1 repeated, ordered by age."""
    repeats = -(-count // stored)
    index = torch.arange(stored, device="cpu").repeat(repeats)[-count:]
    by_age = torch.argsort(ages[index], stable=True)
    return index[by_age].flip(0)


class VoteRetriever(nn.Module):
    """A few layers vote on blocks of neighbouring tokens.

    With ``key_width=None`` nothing is trained: a key is the hidden state minus the layer's mean, at unit length, and all prompt
    tokens count the same (measured floor, RECIPE section 4). Else each voting layer has the paper's two projectors, their
    products are summed, and a small head weighs the prompt's tokens.

    Args:
        voting: numbers of the voting layers, ascending.
        width: D.
        key_width: R per voting layer, or None.
        window: neighbouring blocks that are judged together, since a sentence seldom ends where a block does (one block: the best
            place right for 0.68 of the questions, two: 0.81, same weights; experiments/LOG.md, ``experiments/finding.py``).
    """

    def __init__(self, voting: tuple[int, ...], width: int, key_width: int | None = None, window: int = 1) -> None:
        super().__init__()
        self.window = window
        self.voting = tuple(voting)
        self.width = width
        self.key_width = key_width
        if key_width is None:
            self.register_buffer("mean", torch.zeros(len(voting), width, **PLAIN))
        else:
            self.query_proj = nn.ModuleList(perceptron(width, key_width) for _ in voting)
            self.key_proj = nn.ModuleList(perceptron(width, key_width) for _ in voting)
            self.weigh = nn.Linear(width, 1, **PLAIN)
            nn.init.zeros_(self.weigh.weight)
            nn.init.zeros_(self.weigh.bias)
            self.scale = nn.Parameter(torch.zeros(len(voting), **PLAIN))

    @property
    def total_width(self) -> int:
        """F, numbers in one token's search key."""
        return len(self.voting) * (self.key_width or self.width)

    def keys(self, features: list[Tensor]) -> Tensor:
        """Search keys [..., F] from the voting layers' normalised hidden states, V tensors [..., D]."""
        if self.key_width is None:
            return torch.cat([self._centred(place, part) for place, part in enumerate(features)], -1)
        return torch.cat([project(part) for project, part in zip(self.key_proj, features, strict=True)], -1)

    def queries(self, features: list[Tensor], text_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Query vectors [B, T, F] and token weights [B, T] that sum to 1 over the prompt's own tokens."""
        if self.key_width is None:
            query = torch.cat([self._centred(place, part) for place, part in enumerate(features)], -1)
            logits = torch.zeros(text_BT.shape, dtype=torch.float32, device=query.device)
        else:
            gain = (self.scale.exp() / (self.key_width * len(self.voting)) ** 0.5).to(features[0])
            parts = [
                gain[place] * project(part) for place, (project, part) in enumerate(zip(self.query_proj, features, strict=True))
            ]
            query = torch.cat(parts, -1)
            logits = self.weigh(features[len(features) // 2]).squeeze(-1).float()
        weight = logits.masked_fill(~text_BT, float("-inf")).softmax(-1)
        return query, weight

    def matches(self, query_BTF: Tensor, keys_MF: Tensor, block: int) -> Tensor:
        """Each prompt token's best match inside every block of `block` neighbours, [B, T, m]; the last block may be short."""
        prompts, tokens, _ = query_BTF.shape
        match = query_BTF.reshape(prompts * tokens, -1) @ keys_MF.to(query_BTF).T
        missing = -keys_MF.shape[0] % block
        if missing:
            match = functional.pad(match, (0, missing), value=float("-inf"))
        return match.view(prompts, tokens, -1, block).amax(-1)

    def block_scores(
        self, query_BTF: Tensor, weight_BT: Tensor, keys_MF: Tensor, block: int, follows_m: Tensor | None = None
    ) -> Tensor:
        """Scores [B, m] of the windows that begin at each block of keys [M, F]; see ``matches`` and ``window_scores``."""
        return self.window_scores(self.matches(query_BTF, keys_MF, block), weight_BT, follows_m)

    def window_scores(self, match_BTm: Tensor, weight_BT: Tensor, follows_m: Tensor | None = None) -> Tensor:
        """Score of the window that begins at each block, float32 [B, m]: sum_t w_t max_j q_t . k_j over the window's tokens.

        Args:
            match_BTm: from ``matches``, blocks in the order of the text.
            weight_BT: from ``queries``.
            follows_m: False where the next block is not the text's next one; None: all of them are.
        """
        best = match_BTm
        for step in range(1, self.window):
            shifted = match_BTm[..., step:]
            if follows_m is not None:
                broken = ~torch.stack([follows_m[start : start + shifted.shape[-1]] for start in range(step)]).all(0)
                shifted = shifted.masked_fill(broken.to(shifted.device), float("-inf"))
            best = torch.maximum(best, functional.pad(shifted, (0, step), value=float("-inf")))
        return torch.einsum("btm,bt->bm", best.float(), weight_BT.float())

    def _centred(self, place: int, part: Tensor) -> Tensor:
        mean = self.get_buffer("mean")[place]
        return functional.normalize(part.float() - mean.float(), dim=-1).to(part.dtype)


def choose_blocks(scores: Tensor, ids: Tensor, budget: int, neighbours: int, window: int = 1) -> Tensor:
    """The best windows and their neighbours in the text, until `budget` blocks are chosen.

    Args:
        scores: [m] score of the window that begins at each block.
        ids: [m] ascending places of the blocks in the text (neighbours differ by 1).
        budget: blocks to read at most.
        neighbours: blocks taken along on each side.
        window: blocks of one window.

    Returns:
        [<=budget] indices into the blocks, oldest first.
    """
    total = scores.shape[0]
    if total <= budget:
        return torch.arange(total, device="cpu")
    ranked = ids[best_places(scores, budget).cpu()]  # each hit brings at least itself
    wanted = (ranked[:, None] + _outwards(neighbours, window)).flatten()
    place = torch.searchsorted(ids, wanted).clamp(max=total - 1)
    found = place[ids[place] == wanted]
    seen: dict[int, None] = {}
    for block in found.tolist():
        seen.setdefault(block)
        if len(seen) == budget:
            break
    return torch.tensor(sorted(seen), dtype=torch.int64, device="cpu")


def _outwards(neighbours: int, window: int) -> Tensor:
    """[window + 2 neighbours] steps from a window's first block: the window first, then outwards."""
    reach = torch.arange(-neighbours, window + neighbours, device="cpu")
    return reach[torch.maximum(-reach, reach - window + 1).clamp(min=0).argsort(stable=True)]


def best_span_last(chosen: Tensor, scores: Tensor, ids: Tensor) -> Tensor:
    """Chosen blocks in spans of neighbours, the span with the best block last; in a span the order of the text.

    Args:
        chosen: [k] ascending indices into the blocks.
        scores, ids: [m] as for ``choose_blocks``.
    """
    if not chosen.numel():
        return chosen
    breaks = ids[chosen].diff() != 1
    span = torch.cat([breaks.new_zeros(1), breaks]).cumsum(0)
    found = scores[chosen].float().cpu()
    best = found.new_full((int(span[-1]) + 1,), float("-inf")).scatter_reduce(0, span, found, "amax")
    order = best.argsort(stable=True)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(order.shape[0], device="cpu"))
    return chosen[rank[span].argsort(stable=True)]
