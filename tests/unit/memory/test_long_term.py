"""Laws of the view on long-term memory: each group's rows out of the log, search keys in pieces, indexes as if made anew."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.index.first_stage import FirstStageIndex
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch
from mplus.memory import long_term
from mplus.memory.log import RowLog
from mplus.memory.long_term import LongTerm, index_slab
from mplus.memory.placement import LongGroup, Placement
from mplus.memory.row_codec import RowCodec
from mplus.memory.rows import RowLayout
from mplus.settings import Geometry
from tests.tiny import search_from, tiny_geometry

LAYERS = 2
PER_LAYER: dict[str, Any] = {"drop": "per_layer", "retrieval": "per_layer"}


def layout(search_groups: int, width: int = 1) -> RowLayout:
    return RowLayout(
        format="hidden",
        layers=LAYERS,
        fields={"hidden": (3,), "search": (width,)},
        search_groups=search_groups,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def rows_of(births: list[int], search_groups: int, width: int = 1) -> dict[str, Tensor]:
    """Rows [L, k, ...] that carry layer and birth."""
    numbers = torch.tensor(births, dtype=torch.float32)
    own = torch.stack([numbers + 1000 * layer for layer in range(LAYERS)])
    search = torch.sin(own[:search_groups, :, None] * torch.arange(1, width + 1)) if width > 1 else own[:search_groups, :, None]
    return {"hidden": own[..., None].expand(-1, -1, 3).clone(), "search": search}


def view(births: list[list[int]], rows: int = 12, **changed: Any) -> LongTerm:
    """Long-term tokens by group, of a log of so many rows."""
    geometry: Geometry = tiny_geometry(**changed)
    own = layout(1 if geometry.read.is_shared else LAYERS)
    codec = RowCodec(own, geometry)
    log, _ = RowLog(codec.fields).appended(codec.stored(rows_of(list(range(rows)), own.search_groups)))
    groups = tuple(LongGroup().with_more(torch.tensor(one), torch.tensor(one), None) for one in births)
    return LongTerm(own, geometry, codec, log, groups)


def test_shared_rows_hold_all_layers_in_one_record() -> None:
    held = view([[4, 5, 6, 7]])
    assert held.groups == 1
    assert held.gather(0, torch.tensor([2, 0]), ("hidden",))["hidden"][:, :, 0].tolist() == [[6, 1006], [4, 1004]]
    assert held.column(0, "search")[:, 0].tolist() == [4, 5, 6, 7]


def test_layers_have_their_own_rows_when_each_finds_its_own() -> None:
    held = view([[4, 5], [8, 9, 3]], **PER_LAYER)
    assert [held.births(group).tolist() for group in range(2)] == [[4, 5], [8, 9, 3]]
    assert held.column(1, "hidden")[:, 0].tolist() == [1008, 1009, 1003]
    assert held.gather(0, torch.tensor([1]), ("search",))["search"].tolist() == [[5.0]]
    assert (len(held), held.smallest, held.tokens(0), held.tokens(1)) == (3, 2, 2, 3)


def test_size_counts_every_field() -> None:
    assert view([[0, 1, 2, 3]]).size_bytes == 4 * (LAYERS * 3 * 4 + 4)
    assert view([[0, 1, 2], [5]], **PER_LAYER).size_bytes == 4 * (3 * 4 + 4)


def test_a_row_that_the_group_does_not_have_is_refused() -> None:
    with pytest.raises(IndexError):
        view([[4, 5, 6, 7]]).gather(0, torch.tensor([4]), ("hidden",))


# -- search keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
@pytest.mark.parametrize("begin", [0, 1, 5, 8])
def test_search_keys_come_in_pieces_that_make_the_column(monkeypatch: pytest.MonkeyPatch, kept_bytes: int, begin: int) -> None:
    monkeypatch.setattr(long_term, "PIECE_ROWS", 3)
    monkeypatch.setattr(long_term, "KEPT_KEYS_BYTES", kept_bytes)
    held = view([[4, 5, 6, 7, 1, 0, 9, 10]])
    for _ in range(2):  # the second time from what was kept
        parts = list(held.search_parts(0, begin))
        assert all(part.shape[0] <= 3 for part in parts)
        found = torch.cat(parts) if parts else torch.empty(0, 1)
        assert torch.equal(found, held.column(0, "search")[begin:])


def test_keys_that_are_kept_are_fetched_once_also_after_more_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_term, "PIECE_ROWS", 4)
    held, fetched = view([[4, 5, 6, 7, 1]]), list[int]()
    gather = RowLog.gather

    def noted(log: RowLog, rows: Tensor, *args: Any, **options: Any) -> dict[str, Tensor]:
        fetched.extend(rows.tolist())
        return gather(log, rows, *args, **options)

    monkeypatch.setattr(RowLog, "gather", noted)
    for _ in range(3):
        assert torch.cat(list(held.search_parts(0)))[:, 0].tolist() == [4, 5, 6, 7, 1]
    assert fetched == [4, 5, 6, 7, 1]
    more = LongGroup().with_more(torch.tensor([4, 5, 6, 7, 1, 2, 3, 8, 9]), torch.tensor([4, 5, 6, 7, 1, 2, 3, 8, 9]), None)
    after = held.followed_by(held.log, (more,))
    fetched.clear()
    assert torch.cat(list(after.search_parts(0)))[:, 0].tolist() == [4, 5, 6, 7, 1, 2, 3, 8, 9]
    assert fetched == [1, 2, 3, 8, 9], "pieces that were full are kept"


# -- indexes ---------------------------------------------------------------------------------------------------------


def slabs_of(index: FirstStageIndex) -> list[Any]:
    """What an index holds, as plain values."""
    slabs, start = index._held
    filled = [slab.short[..., : slab.used] if isinstance(index, PcaSketch) else slab.short[: slab.used] for slab in slabs]
    return [
        start,
        [short.tolist() for short in filled],
        [{name: value.tolist() for name, value in slab.fitted.items()} for slab in slabs],
    ]


@pytest.mark.parametrize("changed", [{}, {"block_tokens": 1}, PER_LAYER], ids=["blocks", "single tokens", "per layer"])
@pytest.mark.parametrize("capacity", [40, 4000])
def test_an_index_that_followed_every_write_is_the_one_made_at_once(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], capacity: int
) -> None:
    """So a memory that was opened from files, or forgot a source, answers as one that was never away."""
    search_from(monkeypatch, 16)
    for kind in (Int8Keys, PcaSketch):
        monkeypatch.setattr(kind, "slab_rows", 32)
    geometry = tiny_geometry(ltm_capacity=capacity, **changed)
    slab = index_slab(geometry)
    assert slab == 32
    own = layout(1 if geometry.read.is_shared else LAYERS, width=6)
    codec, chooser = RowCodec(own, geometry), random.Random(4)
    log, placement = RowLog(codec.fields), Placement.new(geometry, LAYERS, 1)
    held, indexed = LongTerm(own, geometry, codec, log, placement.long), 0
    for _ in range(40):
        count = 4 * chooser.randrange(1, 3)
        placement = placement.written(geometry, log.end, count, slab=slab)
        log, _ = log.appended(codec.stored(rows_of(list(range(log.end, log.end + count)), own.search_groups, 6)))
        log = log.trimmed(placement.first_row or 0)
        held = held.followed_by(log, placement.long)
        anew = LongTerm(own, geometry, codec, log, placement.long)
        for group in range(held.groups):
            mine, made = held.index_of(group), anew.index_of(group)
            assert (mine is None) == (made is None) == (held.tokens(group) < 16)
            if mine is not None and made is not None:
                indexed += 1
                assert slabs_of(mine) == slabs_of(made)
    assert indexed > 20


def test_indexes_of_forks_share_nothing_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    search_from(monkeypatch, 4)
    held = view([[4, 5, 6, 7, 0, 1, 2, 3]])
    before = slabs_of(held.index_of(0))  # type: ignore[arg-type]
    twin = held.fork()
    more = replace(LongGroup().with_more(torch.tensor([4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11]), torch.arange(12), None))
    twin = twin.followed_by(held.log, (more,))
    assert len(twin.index_of(0) or ()) == 12
    assert slabs_of(held.index_of(0)) == before  # type: ignore[arg-type]
