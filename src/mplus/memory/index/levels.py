"""Search keys of one layer in one byte a number, and a stand-in for any score that scans them. Knows tensors; nothing of stores,
models or what a score is.

Legend: R key width, M rows summarised, S rows of a slab, s sampled rows, c candidates.

Each layer drops tokens at random, so rows next to each other say nothing of each other; and 640 of a million keys are the best for
reasons that no mean of a bunch of keys shows (balanced leaves of similar keys kept 0.61 of them, see docs/decisions/0020). So every
row is looked at, but by one product instead of a score: a linear function of the key, fitted for this prompt to exact scores of
a sample, the high ones above all.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mplus.memory.index.pieces import dealt
from mplus.memory.index.summaries import check_state

SLAB_ROWS = 262_144
SAMPLE_ROWS = 4096
EMPHASIS = 8
"""Exponent of a sampled row's rank as its weight in the fit: what matters is right where the best are."""
LEVELS = 127

Score = Callable[[Tensor], Tensor]
"""Keys [k, R] to scores [k]."""


@dataclass(frozen=True)
class _Slab:
    """Levels of up to S consecutive rows.

    Attributes:
        scale: [R] what one level is worth in each dimension.
        levels: [S, R] int8.
        used: rows filled.
    """

    scale: Tensor
    levels: Tensor
    used: int

    def put(self, first: int, keys: Tensor) -> None:
        """Fill rows from `first` on with the levels of keys [n, R], float32."""
        levels = (keys / self.scale).round_().clamp_(-LEVELS, LEVELS).to(torch.int8)
        self.levels[first : first + keys.shape[0]] = levels


class KeyLevels:
    """int8 keys of all rows but the newest, oldest first; rows come in groups.

    Args:
        group_rows: rows that are summarised together.
    """

    exact_below = 65_536
    """Rows below which every one is scored and there is nothing to summarise."""
    candidates_per_token = 12
    """Rows scored exactly for each one that is read (times K0 in all)."""
    group_rows = 4096

    def __init__(self, *, group_rows: int | None = None) -> None:
        self.group_rows = group_rows or type(self).group_rows
        self._held: tuple[list[_Slab], int] = [], 0  # and forgotten rows of the first slab
        self._sampled: Tensor | None = None

    @property
    def _slabs(self) -> list[_Slab]:
        return self._held[0]

    @property
    def _start(self) -> int:
        return self._held[1]

    def __len__(self) -> int:
        """Rows summarised and held."""
        return sum(slab.used for slab in self._slabs) - self._start

    @property
    def size_bytes(self) -> int:
        """Bytes of all levels that are filled."""
        return sum(slab.used * slab.levels.shape[1] for slab in self._slabs)

    def add(self, keys_nR: Tensor) -> None:
        """Summarise one group of rows [group_rows, R], the newest."""
        keys, count, self._sampled = keys_nR.float(), keys_nR.shape[0], None
        if not self._slabs or self._slabs[-1].used + count > self._slabs[-1].levels.shape[0]:
            self._slabs.append(self._opened((keys.abs().amax(0) / LEVELS).clamp(min=1e-12)))
        slab = self._slabs[-1]
        slab.put(slab.used, keys)
        self._slabs[-1] = replace(slab, used=slab.used + count)

    def _opened(self, scale: Tensor) -> _Slab:
        room = max(SLAB_ROWS // self.group_rows, 1) * self.group_rows
        return _Slab(scale, torch.empty(room, scale.shape[0], dtype=torch.int8, device="cpu"), 0)

    def state(self) -> dict[str, Tensor]:
        """See ``Summaries``: what a level is worth and how many rows were filled per slab, and how many of the first are forgotten."""
        slabs, start = self._held
        if not slabs:
            return {}
        used = torch.tensor([start, *(slab.used for slab in slabs)], dtype=torch.int64, device="cpu")
        return {"used": used, "scale": torch.stack([slab.scale for slab in slabs])}

    def check(self, state: dict[str, Tensor], rows: int, width: int) -> None:
        """Raise ``ValueError`` where a state cannot be of `rows` rows of `width` numbers."""
        check_state(state, rows, {"scale": (width,)})

    def restore(self, state: dict[str, Tensor], parts: Iterable[Tensor]) -> None:
        """See ``Summaries``."""
        start, *used = state["used"].tolist()
        slabs = [replace(self._opened(scale), used=count) for scale, count in zip(state["scale"], used, strict=True)]
        begins = [start, *[0] * (len(slabs) - 1)]
        for number, had, keys in dealt(parts, [slab.used - begin for slab, begin in zip(slabs, begins, strict=True)]):
            slabs[number].put(begins[number] + had, keys.float())
        self._held, self._sampled = (slabs, start), None

    def forget(self, rows: int) -> None:
        """Let go of the oldest rows; a slab goes with its last one."""
        slabs, start = self._held
        start += min(rows, len(self))
        gone = 0
        while gone < len(slabs) and start >= slabs[gone].used:
            start -= slabs[gone].used
            gone += 1
        self._sampled = None
        self._held = slabs[gone:], start

    def staged(self) -> KeyLevels:
        """A copy to change next; it goes on filling the open slab, so only one of the two is used afterwards."""
        twin = KeyLevels(group_rows=self.group_rows)
        twin._held, twin._sampled = (list(self._slabs), self._start), self._sampled
        return twin

    def fork(self) -> KeyLevels:
        """A copy that shares nothing that can change: full slabs are shared, the open one is copied."""
        twin = KeyLevels(group_rows=self.group_rows)
        slabs = list(self._slabs)
        if slabs:
            slabs[-1] = replace(slabs[-1], levels=slabs[-1].levels.clone())
        twin._held = slabs, self._start
        return twin

    def candidates(self, score: Score, count: int) -> Tensor:
        """Places [about `count`] of rows that probably score high, ascending, counted from the oldest row held.

        Args:
            score: what the rows will be judged by.
        """
        total = len(self)
        if count >= total:
            return torch.arange(total, device="cpu")
        if self._sampled is None:
            self._sampled = self._sample(min(SAMPLE_ROWS, total))
        sample = self._sampled
        weights, offset = stand_in(sample, score(sample).float().cpu())
        about = sample @ weights + offset
        least = about.topk(max(1, round(count * sample.shape[0] / total))).values[-1] - offset
        found, first = [], -self._start
        for slab in self._slabs:
            found.append(_above(slab, weights, float(least)) + first)
            first += slab.used
        rows = torch.cat(found)
        return rows[rows >= 0]

    def _sample(self, count: int) -> Tensor:
        """Keys [s, R] of rows at even distances."""
        rows = torch.linspace(self._start, self._start + len(self) - 1, count, dtype=torch.float64, device="cpu").round_().long()
        out, first = [], 0
        for slab in self._slabs:
            here = rows[(rows >= first) & (rows < first + slab.used)] - first
            out.append(slab.levels[here].float() * slab.scale)
            first += slab.used
        return torch.cat(out)


def stand_in(keys_sR: Tensor, scores_s: Tensor) -> tuple[Tensor, Tensor]:
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


def _above(slab: _Slab, weights: Tensor, least: float) -> Tensor:
    """Rows of a slab, forgotten ones too, whose product with the weights is at least `least`."""
    scaled = weights * slab.scale
    unit = float(scaled.abs().amax()) / LEVELS
    if unit == 0.0:
        return torch.arange(slab.used, device="cpu")
    bound = math.ceil(min(max(least / unit, -(2.0**31)), 2.0**31 - 1))  # whole numbers compare faster
    chosen = products(slab.levels[: slab.used], (scaled / unit).round().to(torch.int8)) >= bound
    eights = -slab.used % 8
    if eights:
        chosen = torch.nn.functional.pad(chosen, (0, eights))
    bunches = chosen.view(torch.int64).nonzero()[:, 0]  # eight rows at a time: few are chosen, and finding them costs a step each
    rows = (bunches[:, None] * 8 + torch.arange(8, device="cpu")).flatten()
    return rows[chosen[rows]]


def products(levels_MR: Tensor, weights_R: Tensor) -> Tensor:
    """[M] whole-number products of int8 rows with int8 weights."""
    if _has_int8_products():
        out: Tensor = torch._int_mm(levels_MR, weights_R[:, None])[:, 0]
        return out
    return (levels_MR.float() @ weights_R.float()).round_().to(torch.int32)  # below 2^24: exact


@functools.cache
def _has_int8_products() -> bool:
    """Whether this torch multiplies int8 matrices on the CPU (it has no public name for that yet)."""
    left = torch.arange(-8, 8, dtype=torch.int8, device="cpu").view(4, 4)
    try:
        got = torch._int_mm(left, left[:, :1].contiguous())
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(got, (left.long() @ left[:, :1].long()).int())
