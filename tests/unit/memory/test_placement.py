"""Laws of placement: who leaves and who is forgotten when, under both rules of eviction; replaying writes gives the same again."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.memory import drops
from mplus.memory.placement import LongGroup, Placement
from mplus.settings import Geometry
from tests.conftest import TinyModel
from tests.tiny import ids, tiny_geometry

LAYERS = 2
PER_LAYER = {"drop": "per_layer", "retrieval": "per_layer"}


def after_drop(placement: Placement, geometry: Geometry, births: list[list[int]], slab: int = 1) -> Placement:
    """The placement after tokens [G][k] were in short-term memory and left it; a token's row has the number of its birth."""
    table = torch.tensor(births)
    held = replace(placement, rows=table, births=table.clone())
    return held.written(geometry, 0, 0, torch.arange(table.shape[1]).expand(table.shape[0], -1), slab=slab)


def long_births(placement: Placement) -> list[list[int]]:
    return [group.births.tolist() for group in placement.long]


def same_placement(first: Placement, second: Placement) -> bool:
    return (
        torch.equal(first.rows, second.rows)
        and torch.equal(first.births, second.births)
        and torch.equal(first.generator, second.generator)
        and (first.now, first.writes_since_merge) == (second.now, second.writes_since_merge)
        and len(first.long) == len(second.long)
        and all(map(same_group, first.long, second.long))
    )


def same_group(first: LongGroup, second: LongGroup) -> bool:
    frequencies = (first.frequency, second.frequency)
    return (
        torch.equal(first.all_rows.values, second.all_rows.values)
        and torch.equal(first.all_births.values, second.all_births.values)
        and (first.skipped, first.forgotten, first.waiting) == (second.skipped, second.forgotten, second.waiting)
        and (frequencies == (None, None) or (all(one is not None for one in frequencies) and torch.equal(*frequencies)))  # type: ignore[arg-type]
    )


# -- who goes where --------------------------------------------------------------------------------------------------


def test_what_leaves_short_term_memory_is_in_every_long_term_group_that_it_left_for() -> None:
    shared, own = tiny_geometry(), tiny_geometry(**PER_LAYER)
    assert long_births(after_drop(Placement.new(shared, LAYERS, 0), shared, [[4, 5, 6, 7]])) == [[4, 5, 6, 7]]
    assert long_births(after_drop(Placement.new(own, LAYERS, 0), own, [[4, 5], [8, 9]])) == [[4, 5], [8, 9]]


def test_rows_dropped_by_all_layers_are_kept_per_layer_when_each_finds_its_own() -> None:
    geometry = tiny_geometry(drop="shared", retrieval="per_layer")
    assert long_births(after_drop(Placement.new(geometry, LAYERS, 0), geometry, [[4, 5]])) == [[4, 5], [4, 5]]


def test_first_dropped_are_forgotten_first_at_capacity() -> None:
    geometry = tiny_geometry(ltm_capacity=10, **PER_LAYER)
    placement = Placement.new(geometry, LAYERS, 0)
    for first in range(0, 40, 3):
        placement = after_drop(placement, geometry, [[first, first + 1, first + 2]] * LAYERS)
        assert long_births(placement) == [list(range(first + 3))[-10:]] * LAYERS
        assert placement.long[0].forgotten == max(0, first + 3 - 10)


def test_whole_blocks_are_forgotten_when_layers_vote() -> None:
    geometry = tiny_geometry(ltm_capacity=10)
    placement = Placement.new(geometry, LAYERS, 0)
    for first in range(0, 40, 4):
        placement = after_drop(placement, geometry, [[first, first + 1, first + 2, first + 3]])
        (births,) = long_births(placement)
        assert len(births) <= 10 and len(births) % 4 == 0
        assert all(birth % 4 == 0 for birth in births[::4])
    assert births == list(range(32, 40))


@pytest.mark.parametrize("changed", [{"ltm_capacity": 0}, {"ltm": False}])
def test_without_room_nothing_is_kept(changed: dict[str, Any]) -> None:
    geometry = tiny_geometry(**changed, **PER_LAYER)
    placement = after_drop(Placement.new(geometry, LAYERS, 0), geometry, [[1, 2, 3]] * LAYERS)
    assert long_births(placement) == [[], []] and len(placement) == 0


def test_what_is_dropped_without_keeping_is_nowhere() -> None:
    geometry = tiny_geometry()
    placement = Placement.new(geometry, LAYERS, 0).written(geometry, 0, 16)
    ranks = torch.arange(4, 8)[None]
    kept = placement.written(geometry, 16, 4, ranks)
    gone = placement.written(geometry, 16, 4, ranks, keep_dropped=False)
    assert long_births(kept) == [[4, 5, 6, 7]] and long_births(gone) == [[]]
    assert torch.equal(kept.rows, gone.rows) and kept.rows.tolist() == [[0, 1, 2, 3, *range(8, 20)]]


def test_going_on_leaves_the_placement_before_unchanged() -> None:
    geometry = tiny_geometry(eviction="countdown", merge_every_writes=3, **PER_LAYER)
    placement = after_drop(Placement.new(geometry, LAYERS, 0), geometry, [[1, 2]] * LAYERS)
    later = [placement, placement]
    for birth in range(3, 30):
        later = [after_drop(one, geometry, [[birth + 100 * number]] * LAYERS) for number, one in enumerate(later)]
    assert long_births(placement) == [[1, 2], [1, 2]]
    assert ([group.waiting for group in placement.long], placement.writes_since_merge) == ([2, 2], 1)
    assert long_births(later[0])[0][2:] == list(range(3, 30)) and long_births(later[1])[0][2:] == list(range(103, 130))


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("read", [0, 4, 12])
def test_countdown_equals_the_published_rule_row_by_row(every: int, read: int) -> None:
    """Merge: rows of the cache enter with the initial frequency; all count down, and those that reach 0 go, but only if
    more than K0 would stay; else nothing changes."""
    geometry = tiny_geometry(
        eviction="countdown",
        merge_every_writes=every,
        initial_recall_frequency=3,
        recall_decay=1,
        ltm_read_tokens=read,
        **PER_LAYER,
    )
    placement = Placement.new(geometry, LAYERS, 0)
    merged: list[list[float]] = []  # [birth, frequency]
    cache: list[int] = []
    for write in range(30):
        births = [2 * write, 2 * write + 1]
        placement = after_drop(placement, geometry, [births] * LAYERS)
        cache += births
        if (write + 1) % every == 0:
            merged += [[birth, 3.0] for birth in cache]
            cache = []
            stay = [[birth, frequency - 1] for birth, frequency in merged if frequency - 1 > 0.01]
            if len(stay) > read:
                merged = stay
        for group in placement.long:
            count = group.merged
            assert group.frequency is not None
            assert group.births[:count].tolist() == group.rows[:count].tolist() == [birth for birth, _ in merged]
            assert group.frequency[:count].tolist() == [frequency for _, frequency in merged]
            assert group.births[count:].tolist() == cache
            assert group.waiting == len(cache)


# -- rows that are kept for an index ---------------------------------------------------------------------------------


@pytest.mark.parametrize("slab", [1, 4, 24, 1000])
@pytest.mark.parametrize("block", [1, 4])
def test_rows_of_forgotten_tokens_are_kept_back_to_where_a_slab_begins(slab: int, block: int) -> None:
    geometry = tiny_geometry(ltm_capacity=20, block_tokens=block)
    placement, chooser, every = Placement.new(geometry, LAYERS, 0), random.Random(slab), list[int]()
    for _ in range(60):
        more = list(range(len(every), len(every) + block * chooser.randrange(1, 4)))
        every += more
        placement = after_drop(placement, geometry, [more], slab)
        (group,) = placement.long
        assert group.forgotten == len(every) - len(group) == max(0, -(-(len(every) - 20) // block) * block)
        assert group.rows.tolist() == every[group.forgotten :] == group.births.tolist()
        begins = group.forgotten // slab * slab
        assert group.all_rows.values.tolist() == every[begins:] and group.skipped == group.forgotten - begins
        assert placement.first_row == every[begins]
        assert torch.cat(list(placement.all_rows())).tolist() == every[begins:]


def test_a_front_that_was_cut_shorter_before_stays_where_it_is() -> None:
    """Memories of older formats do not have the rows that an index began with."""
    group = replace(LongGroup().with_more(torch.arange(20), torch.arange(20), None), forgotten=5)
    cut = group.without_oldest(2, 8)
    assert cut.rows.tolist() == list(range(2, 20)) and (cut.skipped, cut.forgotten) == (2, 7)
    assert cut.all_rows.values.tolist() == list(range(20))
    later = cut.without_oldest(3, 8)
    assert later.rows.tolist() == list(range(5, 20)) and later.all_rows.values.tolist() == list(range(3, 20))


# -- replaying -------------------------------------------------------------------------------------------------------

REPLAYED: dict[str, dict[str, Any]] = {
    "shared": {},
    "shared, single tokens": {"drop_tokens": 1, "block_tokens": 1},
    "per layer": PER_LAYER,
    "mixed": {"drop": "shared", "retrieval": "per_layer"},
    "countdown": {
        "eviction": "countdown",
        "merge_every_writes": 2,
        "recall_decay": 1,
        "initial_recall_frequency": 3,
        **PER_LAYER,
    },
    "frozen": {"stm_ages": "frozen", **PER_LAYER},
    "no long-term memory": {"ltm": False},
}


@pytest.mark.parametrize("name", REPLAYED)
@pytest.mark.parametrize("slab", [1, 12])
def test_replaying_writes_equals_plain_lists(name: str, slab: int) -> None:
    geometry = tiny_geometry(**{"ltm_capacity": 24, **REPLAYED[name]})
    chooser = random.Random(name)
    counts = [chooser.randrange(1, 9) for _ in range(40)]
    start = Placement.new(geometry, LAYERS, 7)
    short: list[list[int]] = [[] for _ in range(start.groups)]
    long: list[list[int]] = [[] for _ in start.long]
    block = geometry.read.block_tokens if geometry.read.is_shared else 1
    generator, now = torch.Generator().manual_seed(7), 0
    for done, count in enumerate(counts):
        placement = start.replayed(geometry, counts[: done + 1], slab=slab)
        births = torch.tensor(short) if now else torch.empty(len(short), 0, dtype=torch.int64)
        ranks = drops.choose(births, geometry, generator, count).tolist()
        for number, held in enumerate(long):
            gone = [short[number % len(short)][rank] for rank in ranks[number % len(ranks)]]
            held += gone if geometry.sizes.ltm else []
            if geometry.quirks.eviction == "oldest":
                del held[: max(0, -(-(len(held) - 24) // block) * block)]
        for number, held in enumerate(short):
            out = set(ranks[number])
            short[number] = [birth for rank, birth in enumerate(held) if rank not in out] + list(range(now, now + count))
        now += count
        assert placement.rows.tolist() == short and placement.now == now
        assert torch.equal(placement.generator, generator.get_state())
        if geometry.quirks.eviction == "oldest":
            assert [group.rows.tolist() for group in placement.long] == long
        if geometry.quirks.stm_ages == "since_written":
            assert placement.births.tolist() == short
            assert long_births(placement) == [group.rows.tolist() for group in placement.long]


@pytest.mark.parametrize("setup", ["shared", "best_last", "recent", "per_layer", "mixed"])
@pytest.mark.parametrize("capacity", [24, 400])
def test_a_memory_is_where_a_replay_of_its_writes_puts_it(tiny_model: TinyModel, setup: str, capacity: int) -> None:
    memory, chooser = tiny_model("llama", setup).new_memory(seed=9, ltm_capacity=capacity), random.Random(setup)
    for step in range(25):
        memory.write(ids(chooser.randrange(1, 12), step), source=chooser.choice("abc"))
    again = Placement.new(memory.geometry, memory.layout.layers, 9).replayed(
        memory.geometry, [chunk.rows for chunk in memory.ledger.chunks], slab=memory.slab
    )
    assert same_placement(memory.placement, again)
    assert [chunk.first for chunk in memory.ledger.chunks] == torch.tensor([0] + [c.rows for c in memory.ledger.chunks]).cumsum(
        0
    )[:-1].tolist()


def test_another_seed_draws_others(tiny_model: TinyModel) -> None:
    geometry = tiny_geometry()
    draws = {str(Placement.new(geometry, LAYERS, seed).replayed(geometry, [8] * 9).rows.tolist()) for seed in range(6)}
    assert len(draws) > 3


# -- taking rows out -------------------------------------------------------------------------------------------------


def test_taking_rows_out_leaves_the_others_where_they_are() -> None:
    geometry = tiny_geometry()
    placement = Placement.new(geometry, LAYERS, 3).replayed(geometry, [8] * 12)
    gone = torch.arange(8, 56)
    left = placement.without(gone)
    held = set(gone.tolist())
    assert left.rows.tolist() == [[row for row in placement.rows[0].tolist() if row not in held]]
    assert left.long[0].rows.tolist() == [row for row in placement.long[0].rows.tolist() if row not in held]
    assert (left.now, len(placement)) == (placement.now, 16) and torch.equal(left.generator, placement.generator)
    assert long_births(left) == [left.long[0].rows.tolist()]


def test_layers_that_lose_different_numbers_keep_as_many_each_the_newest() -> None:
    geometry = tiny_geometry(**PER_LAYER)
    rows = torch.tensor([[0, 1, 2, 3, 8, 9], [1, 4, 5, 6, 8, 9]])
    placement = replace(Placement.new(geometry, LAYERS, 0), rows=rows, births=rows.clone(), now=10)
    left = placement.without(torch.tensor([0, 1, 2]))
    assert left.rows.tolist() == left.births.tolist() == [[3, 8, 9], [6, 8, 9]]


def test_frequencies_and_waiting_tokens_stay_with_theirs() -> None:
    geometry = tiny_geometry(eviction="countdown", merge_every_writes=3, **PER_LAYER)
    placement = Placement.new(geometry, LAYERS, 0)
    for first in range(0, 10, 2):
        placement = after_drop(placement, geometry, [[first, first + 1]] * LAYERS)
    group = placement.long[0]
    assert group.waiting == 4 and group.frequency is not None
    kept: Tensor = torch.tensor([row not in (1, 7) for row in group.rows.tolist()])
    left = group.keeping(kept)
    assert left.rows.tolist() == [0, 2, 3, 4, 5, 6, 8, 9] and left.waiting == 3
    assert left.frequency is not None and torch.equal(left.frequency, group.frequency[kept])
