"""Simulated age: a memory's tokens after many writes, without writing them. Knows births and geometry, nothing of models or rows.

Legend: S memory tokens written since the beginning, n of them in short-term memory, G drop groups (L layers, or 1 when shared).

A write drops random old tokens and appends its own (``mplus.memory.drops``). So a memory after w writes is: all of the last write,
and a random subset of the rest of known size, which is a random subset of the memory before. Walking back write by write, only
the *number* that survives of each write is random (hypergeometric) and the tokens themselves are uniform: the same distribution
as streaming, drawn in about (N / K) log N steps however old the memory is. docs/decisions/0011 has the proof and says why the
shorter form (priority ``-age / (N / K)`` plus Gumbel noise, RECIPE section 5) is not used.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy
import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.memory import drops
from mplus.settings import Geometry


def simulated(tokens: Sequence[int], geometry: Geometry, groups: int, seed: int) -> Tensor:
    """Births of the short-term tokens after some writes, drawn without doing them.

    Args:
        tokens: memory tokens of each write, oldest first, each 1 to K.
        groups: G; L for per-layer drops, 1 for shared ones.
        seed: of this draw.

    Returns:
        [G, n] births, ascending; whatever was born and is not among them has left for long-term memory.

    Raises:
        InputError: a write is empty or larger than K.
    """
    _check(tokens, geometry)
    randomness = numpy.random.default_rng(seed)
    span = geometry.drop_span if geometry.write.drop == "shared" else 1
    born = numpy.concatenate([[0], numpy.cumsum(numpy.asarray(tokens, dtype=numpy.int64))])
    held, missing = _units_held(born.tolist(), geometry.sizes.stm_tokens, span), None
    chosen: list[list[Tensor]] = [[] for _ in range(groups)]
    for write in range(len(tokens), 0, -1):
        first, last = int(born[write - 1]) // span, int(born[write]) // span  # units completed by this write
        own, all_held = last - first, held[write]
        if missing is None:
            missing = numpy.full(groups, all_held)
        if not missing.any():
            break
        kept = randomness.hypergeometric(own, all_held - own, missing) if own else numpy.zeros(groups, dtype=numpy.int64)
        for group in range(groups):
            units = first + randomness.permutation(own)[: int(kept[group])]
            chosen[group].append(torch.from_numpy(units))
        missing = missing - kept
    begun = torch.arange(int(born[-1]) // span * span, int(born[-1]))  # the newest unit is not whole yet and cannot leave
    return torch.stack([_births(units, span, begun) for units in chosen])


def streamed(tokens: Sequence[int], geometry: Geometry, groups: int, seed: int) -> Tensor:
    """The same as ``simulated`` by doing every write, with the very code that inference drops with."""
    _check(tokens, geometry)
    generator = torch.Generator().manual_seed(seed)
    held, now = torch.empty(groups, 0, dtype=torch.int64), 0
    for count in tokens:
        ranks = drops.choose(held, geometry, generator, count)
        keep = torch.ones_like(held, dtype=torch.bool).scatter_(1, ranks, False)
        held = torch.cat([held[keep].view(groups, -1), torch.arange(now, now + count).expand(groups, -1)], 1)
        now += count
    return held


def age_of(generator: random.Random, longest_writes: int) -> int:
    """An age in writes for a training target: half uniform over 0 to `longest_writes`, half log-uniform (RECIPE section 5).

    The uniform half meets the distances most of a long memory is made of, the other half those that are asked for most.
    """
    if generator.random() < 0.5:
        return generator.randint(0, longest_writes)
    return min(longest_writes, math.floor(math.exp(generator.uniform(0.0, math.log(longest_writes + 2)))) - 1)


def _units_held(born: list[int], capacity: int, span: int) -> list[int]:
    """Whole units (spans, or single tokens) in short-term memory after each write; a random draw never changes how many."""
    held = [0]
    for before, after in pairwise(born):
        excess = held[-1] * span + before % span + (after - before) - capacity
        held.append(held[-1] - max(0, -(-excess // span)) + after // span - before // span)
    return held


def _births(units: list[Tensor], span: int, begun: Tensor) -> Tensor:
    whole = torch.cat(units).sort().values[:, None] * span + torch.arange(span) if units else torch.empty(0, span)
    return torch.cat([whole.flatten().to(torch.int64), begun])


def _check(tokens: Sequence[int], geometry: Geometry) -> None:
    wrong = [count for count in tokens if not 1 <= count <= geometry.sizes.new_tokens]
    if wrong:
        raise InputError(
            f"a write makes 1 to {geometry.sizes.new_tokens} (K) memory tokens, got {wrong[0]}; cut the text as memory.write does"
        )
