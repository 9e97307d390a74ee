"""Keys of one layer as int8, and a linear surrogate of any score that scans them. Knows tensors; nothing of stores, models or scores.

Legend: R key width, M rows indexed, S rows of a slab, s sampled rows, c candidates.

Each layer drops tokens at random, so rows next to each other say nothing of each other; and 640 of a million keys are the best for
reasons that no mean of a bunch of keys shows (balanced leaves of similar keys kept 0.61 of them, see docs/decisions/0020). So every
row is looked at, but by one product instead of a score: a linear function of the key, fitted for this prompt to exact scores of
a sample, the high ones above all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from mplus.index.first_stage import FirstStageIndex, Slab

SAMPLE_ROWS = 4096
EMPHASIS = 8
"""Exponent of a sampled row's rank as its weight in the fit: what matters is right where the best are."""
LARGEST = 127

Score = Callable[[Tensor], Tensor]
"""Keys [k, R] to scores [k]."""


class Int8Keys(FirstStageIndex):
    """int8 keys [S, R] with one scale [R] per slab."""

    candidates_per_token = 12
    slab_rows = 65_536

    def __init__(self, block: int = 1, *, group_rows: int | None = None, keys_per_row: int = 1) -> None:
        super().__init__(block, group_rows=group_rows, keys_per_row=keys_per_row)
        self._sample: tuple[object, Tensor] | None = None  # of the slabs it was taken from

    @property
    def size_bytes(self) -> int:
        """Bytes of all keys that are filled."""
        return sum(slab.used * slab.short.shape[1] for slab in self._held[0])

    def fit(self, keys_MF: Tensor) -> dict[str, Tensor]:
        return {"scale": (keys_MF.abs().amax(0) / LARGEST).clamp(min=1e-12)}

    def empty(self, fitted: dict[str, Tensor], blocks: int) -> Tensor:
        return torch.empty(blocks, fitted["scale"].shape[0], dtype=torch.int8, device="cpu")

    def put(self, slab: Slab, first: int, keys_MF: Tensor) -> None:
        short = (keys_MF / slab.fitted["scale"]).round_().clamp_(-LARGEST, LARGEST).to(torch.int8)
        slab.short[first : first + keys_MF.shape[0]] = short

    def staged(self) -> Self:
        twin = super().staged()
        twin._sample = self._sample
        return twin

    def candidates(self, score: Score, count: int) -> Tensor:
        """BlockTable [about `count`] of rows that probably score high, ascending, counted from the oldest row held.

        Args:
            score: what the rows will be judged by.
        """
        total = len(self)
        if count >= total:
            return torch.arange(total, device="cpu")
        sample = self._sampled()
        weights, offset = linear_surrogate(sample, score(sample).float().cpu())
        about = sample @ weights + offset
        least = about.topk(max(1, round(count * sample.shape[0] / total))).values[-1] - offset
        slabs, start = self._held
        parts, first = [], -start
        for slab in slabs:
            parts.append(_above(slab, weights, float(least)) + first)
            first += slab.used
        rows = torch.cat(parts)
        return rows[rows >= 0]

    def _sampled(self) -> Tensor:
        """Keys [s, R] of rows at even distances, the same until rows come or go."""
        held = self._held
        if self._sample is None or self._sample[0] is not held:
            slabs, start = held
            count = min(SAMPLE_ROWS, len(self))
            rows = torch.linspace(start, start + len(self) - 1, count, dtype=torch.float64, device="cpu").round_().long()
            out, first = [], 0
            for slab in slabs:
                here = rows[(rows >= first) & (rows < first + slab.used)] - first
                out.append(slab.short[here].float() * slab.fitted["scale"])
                first += slab.used
            self._sample = held, torch.cat(out)
        return self._sample[1]


def linear_surrogate(keys_sR: Tensor, scores_s: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [R] and an offset such that ``keys @ weights + offset`` is near the scores, nearest where these are high."""
    rank = torch.empty_like(scores_s)
    rank[scores_s.argsort(stable=True)] = torch.arange(1, scores_s.shape[0] + 1, device="cpu").to(scores_s) / scores_s.shape[0]
    emphasis = rank.pow(EMPHASIS)
    emphasis /= emphasis.sum()
    key_mean, score_mean = emphasis @ keys_sR, emphasis @ scores_s
    centred = keys_sR - key_mean
    spread = centred.T @ (centred * emphasis[:, None])
    spread.diagonal().add_(1e-4 * spread.diagonal().mean() + 1e-12)
    weights = torch.linalg.solve(spread, centred.T @ (emphasis * (scores_s - score_mean)))
    return weights, score_mean - key_mean @ weights


def _above(slab: Slab, weights: Tensor, least: float) -> Tensor:
    """Rows of a slab, forgotten ones too, whose product with the weights is at least `least`."""
    scaled = weights * slab.fitted["scale"]
    unit = float(scaled.abs().amax()) / LARGEST
    if unit == 0.0:
        return torch.arange(slab.used, device="cpu")
    bound = math.ceil(min(max(least / unit, -(2.0**31)), 2.0**31 - 1))  # whole numbers compare faster
    chosen = products(slab.short[: slab.used], (scaled / unit).round().to(torch.int8)) >= bound
    eights = -slab.used % 8
    if eights:
        chosen = torch.nn.functional.pad(chosen, (0, eights))
    bunches = chosen.view(torch.int64).nonzero()[
        :, 0
    ]  # eight rows at a time: few are chosen, and locating them costs a step each
    rows = (bunches[:, None] * 8 + torch.arange(8, device="cpu")).flatten()
    return rows[chosen[rows]]


def products(keys_MR: Tensor, weights_R: Tensor) -> Tensor:
    """[M] whole-number products of int8 rows with int8 weights."""
    if _has_int8_products():
        out: Tensor = torch._int_mm(keys_MR, weights_R[:, None])[:, 0]
        return out
    return (keys_MR.float() @ weights_R.float()).round_().to(torch.int32)  # below 2^24: exact


@functools.cache
def _has_int8_products() -> bool:
    """Tell whether this torch multiplies int8 matrices on the CPU (it has no public name for that yet)."""
    left = torch.arange(-8, 8, dtype=torch.int8, device="cpu").view(4, 4)
    try:
        got = torch._int_mm(left, left[:, :1].contiguous())
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(got, (left.long() @ left[:, :1].long()).int())
