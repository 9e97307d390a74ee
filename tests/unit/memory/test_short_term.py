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
            dropped, births = pool.remove(ranks)
            for group, own in enumerate(ranks.tolist()):
                gone = [twins[group][rank] for rank in own]
                assert births[group].tolist() == gone
                assert (dropped["hidden"][group, :, 0] - 1000 * group).long().tolist() == gone
                twins[group] = [birth for birth in twins[group] if birth not in gone]
        pool.append(rows(now, count), torch.arange(now, now + count))
        twins = [twin + list(range(now, now + count)) for twin in twins]
        now += count
        assert held(pool) == (twins if groups > 1 else twins * LAYERS)
        assert pool.births.tolist() == twins


def test_token_keeps_its_slot_for_life() -> None:
    pool = ShortTerm(layout(), 8, LAYERS)
    pool.append(rows(0, 8), torch.arange(8))
    slots = pool.order.clone()
    ranks = torch.tensor([[0, 5], [2, 3], [6, 7]])
    pool.remove(ranks)
    pool.append(rows(8, 2), torch.arange(8, 10))
    for layer in range(LAYERS):
        stayed = [rank for rank in range(8) if rank not in ranks[layer].tolist()]
        assert pool.order[layer, :6].tolist() == slots[layer, stayed].tolist()
        assert sorted(pool.order[layer, 6:].tolist()) == sorted(slots[layer, ranks[layer]].tolist())


def test_newest_are_the_last_written_oldest_of_them_first() -> None:
    pool = ShortTerm(layout(), 8, 1)
    pool.append(rows(0, 5), torch.arange(5))
    pool.append(rows(5, 2), torch.arange(5, 7))
    assert pool.newest(3)["hidden"][0, :, 0].tolist() == [4.0, 5.0, 6.0]
    assert pool.newest(100)["hidden"].shape[1] == 7


def test_pool_grows_with_what_is_written_and_no_further_than_its_capacity() -> None:
    pool = ShortTerm(layout(), 100, 1)
    assert pool.rows["hidden"].shape[1] == 0
    pool.append(rows(0, 6), torch.arange(6))
    assert pool.rows["hidden"].shape[1] < 100
    pool.append(rows(6, 94), torch.arange(6, 100))
    assert pool.rows["hidden"].shape[1] == len(pool) == 100
    with pytest.raises(AssertionError, match="cannot take 1 more"):
        pool.append(rows(100, 1), torch.arange(100, 101))


def test_clone_then_write_leaves_the_original_unchanged() -> None:
    pool = ShortTerm(layout(search_groups=1), 6, 1)
    pool.append(rows(0, 6, 1), torch.arange(6))
    twin = pool.clone()
    twin.remove(torch.tensor([[0, 1, 2]]))
    twin.append(rows(50, 3, 1), torch.arange(50, 53))
    twin.births += 9
    assert held(pool)[0] == list(range(6))
    assert pool.births.tolist() == [list(range(6))]
    assert pool.at_slots(pool.order)["search"][0, :, 0].tolist() == list(range(6))


def test_shared_search_keys_leave_with_their_tokens() -> None:
    pool = ShortTerm(layout(search_groups=1), 6, 1)
    pool.append(rows(0, 6, 1), torch.arange(6))
    dropped, _ = pool.remove(torch.tensor([[1, 4]]))
    assert dropped["search"].shape == (1, 2, 1)
    assert dropped["search"][0, :, 0].tolist() == [1.0, 4.0]


def test_rows_may_carry_fields_the_pool_does_not_keep() -> None:
    pool = ShortTerm(layout(), 6, 1)
    pool.append(rows(0, 2, 1), torch.arange(2))
    assert set(pool.at_slots(pool.order)) == {"hidden"}
