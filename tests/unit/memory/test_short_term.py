"""Laws of the short-term pool: order in time, slots for life, copies that share nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mplus.memory.rows import RowLayout
from mplus.memory.short_term import ShortTerm

LAYERS = 3


def layout(search_groups: int = 0) -> RowLayout:
    fields: dict[str, tuple[int, ...]] = {"hidden": (2,)}
    if search_groups:
        fields["search"] = (1,)
    return RowLayout(
        format="hidden",
        layers=LAYERS,
        fields=fields,
        search_groups=search_groups,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def rows(first: int, count: int, search_groups: int = 0) -> dict[str, Tensor]:
    """Tokens whose numbers say who they are: 1000 * layer + birth."""
    births = torch.arange(first, first + count, dtype=torch.float32)
    own = births + 1000 * torch.arange(LAYERS)[:, None]
    out = {"hidden": torch.stack([own, -own], -1)}
    if search_groups:
        out["search"] = own[:search_groups, :, None].clone()
    return out


def held(pool: ShortTerm) -> list[list[int]]:
    """Births read from the rows themselves, per layer, oldest first."""
    found = pool.at_slots(pool.order)["hidden"][..., 0] - 1000 * torch.arange(LAYERS)[:, None]
    return found.long().tolist()


@pytest.mark.parametrize("groups", [1, LAYERS])
def test_pool_equals_plain_lists_under_random_writes(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    pool, now = ShortTerm(layout(), 20, groups), 0
    twins: list[list[int]] = [[] for _ in range(groups)]
    for _ in range(40):
        count = int(torch.randint(1, 9, (), generator=generator))
        excess = max(0, len(pool) + count - 20)
        if excess:
            ranks = torch.stack([torch.randperm(len(pool), generator=generator)[:excess].sort().values for _ in range(groups)])
            pool.remove(ranks)
            for group, own in enumerate(ranks.tolist()):
                gone = [twins[group][rank] for rank in own]
                twins[group] = [birth for birth in twins[group] if birth not in gone]
        pool.append(rows(now, count))
        twins = [twin + list(range(now, now + count)) for twin in twins]
        now += count
        assert held(pool) == (twins if groups > 1 else twins * LAYERS)
        assert len(pool) == len(twins[0])


def test_token_keeps_its_slot_for_life() -> None:
    pool = ShortTerm(layout(), 8, LAYERS)
    pool.append(rows(0, 8))
    slots = pool.order.clone()
    ranks = torch.tensor([[0, 5], [2, 3], [6, 7]])
    pool.remove(ranks)
    pool.append(rows(8, 2))
    for layer in range(LAYERS):
        stayed = [rank for rank in range(8) if rank not in ranks[layer].tolist()]
        assert pool.order[layer, :6].tolist() == slots[layer, stayed].tolist()
        assert sorted(pool.order[layer, 6:].tolist()) == sorted(slots[layer, ranks[layer]].tolist())


def test_newest_are_the_last_written_oldest_of_them_first() -> None:
    pool = ShortTerm(layout(), 8, 1)
    pool.append(rows(0, 5))
    pool.append(rows(5, 2))
    assert pool.newest(3)["hidden"][0, :, 0].tolist() == [4.0, 5.0, 6.0]
    assert pool.newest(100)["hidden"].shape[1] == 7


def test_pool_grows_with_what_is_written_and_no_further_than_its_capacity() -> None:
    pool = ShortTerm(layout(), 100, 1)
    assert pool.rows["hidden"].shape[1] == 0
    pool.append(rows(0, 6))
    assert pool.rows["hidden"].shape[1] < 100
    pool.append(rows(6, 94))
    assert pool.rows["hidden"].shape[1] == len(pool) == 100
    with pytest.raises(AssertionError, match="cannot take 1 more"):
        pool.append(rows(100, 1))


def test_clone_then_write_leaves_the_original_unchanged() -> None:
    pool = ShortTerm(layout(search_groups=1), 6, 1)
    pool.append(rows(0, 6, 1))
    twin = pool.clone()
    twin.remove(torch.tensor([[0, 1, 2]]))
    twin.append(rows(50, 3, 1))
    assert held(pool)[0] == list(range(6))
    assert pool.at_slots(pool.order)["search"][0, :, 0].tolist() == list(range(6))


def test_shared_search_keys_leave_with_their_tokens() -> None:
    pool = ShortTerm(layout(search_groups=1), 6, 1)
    pool.append(rows(0, 6, 1))
    pool.remove(torch.tensor([[1, 4]]))
    kept = pool.at_slots(pool.order)["search"]
    assert kept.shape == (1, 4, 1)
    assert kept[0, :, 0].tolist() == [0.0, 2.0, 3.0, 5.0]


def test_rows_may_carry_fields_the_pool_does_not_keep() -> None:
    pool = ShortTerm(layout(), 6, 1)
    pool.append(rows(0, 2, 1))
    assert set(pool.at_slots(pool.order)) == {"hidden"}


def test_a_staged_pool_writes_only_where_neither_has_a_token() -> None:
    """A write that fails halfway leaves the pool it began with as it was, however often it is begun again."""
    pool = ShortTerm(layout(), 8, LAYERS)
    pool.append(rows(0, 8))
    order, version = pool.order.clone(), pool.version
    for attempt in range(3):
        staged = pool.staged()
        staged.reserve(3)
        staged.remove(torch.tensor([[0, 1, 2], [1, 4, 6], [5, 6, 7]]))
        staged.append(rows(100 * attempt, 3))
        assert held(pool) == [list(range(8))] * LAYERS and torch.equal(pool.order, order) and pool.version == version
        assert [own[-3:] for own in held(staged)] == [list(range(100 * attempt, 100 * attempt + 3))] * LAYERS
        assert staged.version > version and staged.lineage is pool.lineage


def test_slots_that_only_the_pool_before_needed_are_filled_again() -> None:
    pool = ShortTerm(layout(), 8, 1)
    pool.append(rows(0, 8))
    for step in range(6):
        staged = pool.staged()
        staged.reserve(3)
        staged.remove(torch.tensor([[0, 1, 2]]))
        staged.append(rows(8 + 3 * step, 3))
        staged.free_kept()
        pool = staged
    assert held(pool)[0] == list(range(18, 26)) and pool.rows["hidden"].shape[1] <= 11
