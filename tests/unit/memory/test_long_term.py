"""Laws of long-term memory: who is forgotten when, under both rules of eviction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.memory.long_term import LongTerm
from mplus.memory.rows import RowLayout
from mplus.settings import Geometry
from tests.tiny import tiny_geometry

LAYERS = 2


def layout(search_groups: int) -> RowLayout:
    return RowLayout(
        format="hidden",
        layers=LAYERS,
        fields={"hidden": (3,), "search": (1,)},
        search_groups=search_groups,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def longterm(**changed: Any) -> LongTerm:
    geometry: Geometry = tiny_geometry(**changed)
    return LongTerm(layout(1 if geometry.read.is_shared else LAYERS), geometry)


def per_layer(**changed: Any) -> LongTerm:
    return longterm(drop="per_layer", retrieval="per_layer", **changed)


def dropped(births: list[int], search_groups: int) -> tuple[dict[str, Tensor], Tensor]:
    """Rows that carry layer and birth, and their births for one group."""
    numbers = torch.tensor(births, dtype=torch.float32)
    own = torch.stack([numbers + 1000 * layer for layer in range(LAYERS)])
    return {"hidden": own[..., None].expand(-1, -1, 3).clone(), "search": own[:search_groups, :, None]}, torch.tensor([births])


def test_shared_rows_hold_all_layers_in_one_record() -> None:
    memory = longterm()
    memory.append(*dropped([4, 5, 6, 7], 1))
    assert len(memory.stores) == 1
    rows = memory.stores[0].gather(torch.tensor([2, 0]), ("hidden",))["hidden"]
    assert rows[:, :, 0].tolist() == [[6, 1006], [4, 1004]]


def test_layers_keep_their_own_rows_when_each_finds_its_own() -> None:
    memory = per_layer()
    rows, _ = dropped([4, 5], LAYERS)
    memory.append(rows, torch.tensor([[4, 5], [8, 9]]))
    assert [store.column("birth").tolist() for store in memory.stores] == [[4, 5], [8, 9]]
    assert memory.stores[1].column("hidden")[:, 0].tolist() == [1004, 1005]


def test_rows_dropped_by_all_layers_are_kept_per_layer_when_each_finds_its_own() -> None:
    memory = longterm(drop="shared", retrieval="per_layer")
    memory.append(*dropped([4, 5], LAYERS))
    assert [store.column("birth").tolist() for store in memory.stores] == [[4, 5], [4, 5]]


def test_first_dropped_are_forgotten_first_at_capacity() -> None:
    memory = per_layer(ltm_capacity=10)
    for first in range(0, 40, 3):
        memory.append(*dropped([first, first + 1, first + 2], LAYERS))
        assert memory.stores[0].column("birth").tolist() == list(range(first + 3))[-10:]


def test_whole_blocks_are_forgotten_when_layers_vote() -> None:
    memory = longterm(ltm_capacity=10)
    for first in range(0, 40, 4):
        memory.append(*dropped([first, first + 1, first + 2, first + 3], 1))
        births = memory.stores[0].column("birth")
        assert len(memory) <= 10
        assert len(memory) % 4 == 0
        assert (births[::4] % 4 == 0).all()
    assert births.tolist() == list(range(32, 40))


def test_capacity_zero_keeps_nothing() -> None:
    memory = per_layer(ltm_capacity=0)
    memory.append(*dropped([1, 2, 3], LAYERS))
    assert len(memory) == 0


def test_fork_then_take_leaves_the_original_unchanged() -> None:
    memory = per_layer(eviction="countdown", merge_every_writes=3)
    memory.append(*dropped([1, 2], LAYERS))
    twin = memory.fork()
    for birth in range(3, 30):
        twin.append(*dropped([birth], LAYERS))
    assert memory.stores[0].column("birth").tolist() == [1, 2]
    assert (memory.waiting, memory.writes_since_merge) == ([2, 2], 1)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("read", [0, 4, 12])
def test_countdown_equals_the_published_rule_row_by_row(every: int, read: int) -> None:
    """Merge: rows of the cache enter with the initial frequency; all count down, and those that reach 0 go, but only if
    more than K0 would stay; else nothing changes."""
    memory = per_layer(
        eviction="countdown", merge_every_writes=every, initial_recall_frequency=3, recall_decay=1, ltm_read_tokens=read
    )
    merged: list[list[float]] = []  # [birth, frequency]
    cache: list[int] = []
    for write in range(30):
        births = [2 * write, 2 * write + 1]
        memory.append(*dropped(births, LAYERS))
        cache += births
        if (write + 1) % every == 0:
            merged += [[birth, 3.0] for birth in cache]
            cache = []
            stay = [[birth, frequency - 1] for birth, frequency in merged if frequency - 1 > 0.01]
            if len(stay) > read:
                merged = stay
        for group in range(LAYERS):
            store = memory.stores[group]
            count = memory.merged(group)
            assert store.column("birth")[:count].tolist() == [birth for birth, _ in merged]
            assert store.column("frequency")[:count].tolist() == [frequency for _, frequency in merged]
            assert store.column("birth")[count:].tolist() == cache
            assert memory.waiting[group] == len(cache)


def test_size_counts_every_field() -> None:
    memory = longterm()
    memory.append(*dropped([0, 1, 2, 3], 1))
    assert memory.size_bytes == 4 * (LAYERS * 3 * 4 + 4 + 8)
