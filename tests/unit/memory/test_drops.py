"""Laws of dropping: exactly as many as needed, at random, seeded; whole blocks where layers share them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.errors import InputError
from mplus.memory import drops
from tests.tiny import tiny_geometry


def pool(count: int, groups: int, *, first: int = 0) -> Tensor:
    """Births [groups, count] of short-term tokens."""
    return torch.arange(first, first + count).expand(groups, -1)


def choose(held: Tensor, new: int, seed: int = 0, **geometry: Any) -> Tensor:
    return drops.choose(held, tiny_geometry(**geometry), torch.Generator().manual_seed(seed), new)


def test_nothing_is_dropped_while_the_pool_grows() -> None:
    assert choose(pool(8, 1), 8).shape == (1, 0)
    assert choose(pool(8, 3), 8, drop="per_layer", retrieval="per_layer").shape == (3, 0)


def test_each_layer_drops_its_own_tokens_and_just_as_many_as_needed() -> None:
    ranks = choose(pool(14, 3), 6, drop="per_layer", retrieval="per_layer")
    assert ranks.shape == (3, 4)
    assert (ranks.diff() > 0).all()
    assert ranks.min() >= 0 and ranks.max() < 14
    assert len({tuple(row) for row in ranks.tolist()}) == 3


def test_same_seed_drops_the_same_and_the_generator_moves_on() -> None:
    held, geometry = pool(16, 1), tiny_geometry()
    generator, twin = (torch.Generator().manual_seed(4) for _ in range(2))
    draws = [drops.choose(held, geometry, generator, 4).tolist() for _ in range(12)]
    assert draws == [drops.choose(held, geometry, twin, 4).tolist() for _ in range(12)]
    assert len({str(draw) for draw in draws}) > 1


def test_every_token_can_be_dropped() -> None:
    held = pool(16, 1)
    seen = {rank for seed in range(60) for rank in choose(held, 4, seed).flatten().tolist()}
    assert seen == set(range(16))


@pytest.mark.parametrize("first", [0, 4, 9])
@pytest.mark.parametrize("new", [1, 4, 5, 8])
def test_shared_drops_take_whole_blocks_of_neighbours(first: int, new: int) -> None:
    held = pool(16, 1, first=first)
    births = held[0][choose(held, new)[0]]
    assert births.shape[0] % 4 == 0 and births.shape[0] >= new
    blocks = births.view(-1, 4)
    assert (blocks[:, 0] % 4 == 0).all()
    assert (blocks - blocks[:, :1] == torch.arange(4)).all()


def test_no_more_blocks_leave_than_needed() -> None:
    assert choose(pool(16, 1), 4).shape == (1, 4)
    assert choose(pool(16, 1), 5).shape == (1, 8)


def test_blocks_of_one_token_are_single_tokens() -> None:
    assert choose(pool(16, 1), 3, block_tokens=1).shape == (1, 3)


# -- ranks chosen by the caller --------------------------------------------------------------------------------------


def test_given_ranks_are_sorted() -> None:
    assert drops.checked_ranks(pool(8, 3), torch.tensor([[3, 1], [0, 7], [2, 5]])).tolist() == [[1, 3], [0, 7], [2, 5]]


def test_equal_ranks_of_all_layers_are_taken_for_a_pool_that_drops_in_common() -> None:
    assert drops.checked_ranks(pool(8, 1), torch.tensor([[1, 3]] * 3)).tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ([[0, 8], [0, 1], [0, 1]], "0..7"),
        ([[-1, 2], [0, 1], [0, 1]], "0..7"),
        ([[0, 1]], "3"),
        ([[0, 0], [0, 1], [0, 1]], "twice"),
    ],
)
def test_impossible_ranks_are_refused(ranks: list[list[int]], told: str) -> None:
    with pytest.raises(InputError, match=told):
        drops.checked_ranks(pool(8, 3), torch.tensor(ranks))


def test_differing_ranks_are_refused_by_a_pool_that_drops_in_common() -> None:
    with pytest.raises(InputError, match="groups"):
        drops.checked_ranks(pool(8, 1), torch.tensor([[0, 1], [0, 2], [0, 1]]))
