"""Simulated age draws what streaming draws: tested by counts of survivors, with fixed seeds, against the code that drops."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.settings import Geometry
from mplus.training.sampling.age import age_of, simulated, streamed
from tests import tiny

pytestmark = pytest.mark.slow

DRAWS = 400
LEVEL = 1e-4  # of the test: chance that equal distributions are called different

PER_LAYER: dict[str, Any] = {"drop": "per_layer", "retrieval": "per_layer", "block_tokens": 1, "stm_tokens": 40}
SPANS: dict[str, Any] = {"stm_tokens": 64, "block_tokens": 4, "drop_tokens": 8}
UNEVEN = [8, 8, 3, 8, 5, 8, 8, 1, 8, 6, 8, 8, 8, 2, 7, 8]
CASES: dict[str, tuple[dict[str, Any], int, list[int]]] = {
    "per layer": (PER_LAYER, 3, [8] * 16),
    "per layer, uneven writes": (PER_LAYER, 3, UNEVEN),
    "shared tokens": ({"drop": "shared", "retrieval": "per_layer", "block_tokens": 1, "stm_tokens": 40}, 1, [8] * 16),
    "shared spans": (SPANS, 1, [8] * 16),
    "shared spans larger than a write": ({**SPANS, "drop_tokens": 16}, 1, [8] * 16),
    "shared spans, uneven writes": (SPANS, 1, UNEVEN),
    "a pool that is not full yet": (SPANS, 1, [8] * 6),
}


def geometry_of(case: str) -> Geometry:
    """The case's rules."""
    return tiny.tiny_geometry(**CASES[case][0])


def units(case: str) -> int:
    """Tokens that stay or leave together."""
    geometry = geometry_of(case)
    return geometry.drop_span if geometry.write.drop == "shared" else 1


def counts(draws: list[Tensor], tokens: list[int], unit: int) -> Tensor:
    """[draws * groups, writes] units of each write that are still held."""
    births = torch.stack(draws).flatten(0, 1)
    ends = torch.tensor(tokens).cumsum(0)
    table = torch.zeros(births.shape[0], len(tokens))
    for row, held in enumerate(births):
        writes = torch.searchsorted(ends, held, right=True)
        table[row] = torch.bincount(writes, minlength=len(tokens)) / unit
    return table


def statistic(first: Tensor, second: Tensor) -> float:
    """Largest standardised difference between two samples' means, variances and neighbours' products, over all writes.

    Means say how many survive of each age; the second moments that they survive together as they should.
    """
    worst = 0.0
    pairs = [(first, second), (first**2, second**2), (first[:, 1:] * first[:, :-1], second[:, 1:] * second[:, :-1])]
    for one, two in pairs:
        spread = (one.var(0) / one.shape[0] + two.var(0) / two.shape[0]).sqrt()
        difference = (one.mean(0) - two.mean(0)).abs()
        assert not bool(((spread == 0) & (difference > 0)).any()), "what never varies must be equal"
        worst = max(worst, float((difference / spread.clamp(min=1e-9))[spread > 0].max()) if bool((spread > 0).any()) else 0.0)
    return worst


def bound(comparisons: int) -> float:
    """The statistic that equal distributions exceed with chance LEVEL: normal quantile, Bonferroni over all comparisons."""
    return float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - LEVEL / (2 * comparisons))))


def gumbel(tokens: list[int], geometry: Geometry, groups: int, seed: int) -> Tensor:
    """RECIPE section 5: priority -age / (N / K) + Gumbel noise, the N highest."""
    generator = torch.Generator().manual_seed(seed)
    births = torch.arange(sum(tokens))
    age = (sum(tokens) - 1 - births) // geometry.sizes.new_tokens
    noise = -torch.log(-torch.log(torch.rand(groups, births.shape[0], generator=generator)))
    priority = noise - age * geometry.sizes.new_tokens / geometry.sizes.stm_tokens
    return priority.topk(geometry.sizes.stm_tokens).indices.sort(1).values


@functools.cache
def streamed_draws(case: str) -> list[Tensor]:
    """Births of DRAWS memories that were really written."""
    _, groups, tokens = CASES[case]
    return [streamed(tokens, geometry_of(case), groups, seed) for seed in range(DRAWS)]


@pytest.mark.parametrize("case", CASES)
def test_simulated_and_streamed_memories_are_alike(case: str) -> None:
    _, groups, tokens = CASES[case]
    geometry, unit = geometry_of(case), units(case)
    drawn = [simulated(tokens, geometry, groups, seed) for seed in range(DRAWS)]
    done = streamed_draws(case)
    assert {part.shape for part in drawn} == {part.shape for part in done}, "equally many tokens are held"
    first, second = counts(drawn, tokens, unit), counts(done, tokens, unit)
    assert statistic(first, second) < bound(3 * len(tokens))


def test_the_test_tells_gumbel_noise_from_streaming() -> None:
    """Why RECIPE's shorter form is not used (docs/decisions/0011): it lets the newest tokens leave, which no write does."""
    _, groups, tokens = CASES["per layer"]
    geometry = geometry_of("per layer")
    noisy = counts([gumbel(tokens, geometry, groups, seed) for seed in range(DRAWS)], tokens, 1)
    done = counts(streamed_draws("per layer"), tokens, 1)
    assert bool((done[:, -1] == tokens[-1]).all()) and float(noisy[:, -1].mean()) < tokens[-1]
    difference = (noisy[:, :-1].mean(0) - done[:, :-1].mean(0)).abs()
    spread = (noisy[:, :-1].var(0) / len(noisy) + done[:, :-1].var(0) / len(done)).sqrt()
    assert float((difference / spread).max()) > 2 * bound(3 * len(tokens))


def test_survival_is_that_of_the_paper() -> None:
    """Per-layer drops from a full pool: a token survives a write with chance 1 - K / N (paper section 3.1)."""
    geometry = geometry_of("per layer")
    tokens = [8] * 30
    drawn = counts([simulated(tokens, geometry, 8, seed) for seed in range(DRAWS)], tokens, 1)
    expected = torch.tensor([8 * (1 - 8 / 40) ** (29 - write) for write in range(10, 30)])
    spread = drawn.std(0)[10:] / drawn.shape[0] ** 0.5
    assert float(((drawn.mean(0)[10:] - expected).abs() / spread.clamp(min=1e-6))[:-1].max()) < bound(20)


def test_groups_are_drawn_apart() -> None:
    held = simulated([8] * 16, geometry_of("per layer"), 3, 0)
    assert not torch.equal(held[0], held[1]) and not torch.equal(held[1], held[2])


def test_the_same_seed_gives_the_same_memory() -> None:
    geometry = geometry_of("shared spans")
    assert torch.equal(simulated(UNEVEN, geometry, 1, 3), simulated(UNEVEN, geometry, 1, 3))


def test_a_very_old_memory_costs_no_more() -> None:
    """A million tokens: only the newest writes are walked through, and exactly N tokens are held."""
    geometry = geometry_of("per layer")
    held = simulated([8] * 125_000, geometry, 2, 0)
    assert held.shape == (2, 40) and int(held.max()) == 999_999


def test_an_impossible_write_is_refused() -> None:
    with pytest.raises(InputError, match=r"a write makes 1 to 8 \(K\) memory tokens, got 9"):
        simulated([8, 9], geometry_of("per layer"), 1, 0)


def test_ages_reach_the_whole_range_and_favour_the_near() -> None:
    generator = random.Random(0)
    ages = torch.tensor([age_of(generator, 1000) for _ in range(4000)])
    assert int(ages.min()) == 0 and 900 < int(ages.max()) <= 1000
    assert 0.45 < float((ages > 100).float().mean()) < 0.75
    assert float((ages < 10).float().mean()) > 0.1
    assert age_of(generator, 0) == 0
