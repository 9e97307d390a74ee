"""Laws of the long-term store: a plain list in slabs, forks that share only what never changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mplus.memory.store import FIRST_SLAB_ROWS, SLAB_ROWS, RamStore

FIELDS = {"rows": ((2,), torch.float32), "birth": ((), torch.int64)}


def rows(first: int, count: int) -> dict[str, Tensor]:
    births = torch.arange(first, first + count)
    return {"rows": torch.stack([births, -births], -1).float(), "birth": births}


def filled(count: int) -> RamStore:
    store = RamStore(FIELDS)
    store.append(rows(0, count))
    return store


def test_store_equals_a_plain_list_under_random_acts() -> None:
    generator = torch.Generator().manual_seed(1)
    store, twin, now = RamStore(FIELDS), [], 0  # type: ignore[var-annotated]
    for _ in range(200):
        act = int(torch.randint(0, 10, (), generator=generator))
        if act < 6:
            count = int(torch.randint(0, 3 * FIRST_SLAB_ROWS, (), generator=generator))
            store.append(rows(now, count))
            twin, now = twin + list(range(now, now + count)), now + count
        elif act < 8:
            count = int(torch.randint(0, 700, (), generator=generator))
            store.evict_oldest(count)
            twin = twin[count:]
        elif act == 8 and twin:
            mask = torch.rand(len(twin), generator=generator) < 0.7
            store.keep(mask)
            twin = [birth for birth, kept in zip(twin, mask.tolist(), strict=True) if kept]
        else:
            store = store.fork()
        assert len(store) == len(twin)
        assert store.column("birth").tolist() == twin
        assert torch.cat([part[:, 0] for part in store.parts("rows")] or [torch.empty(0)]).long().tolist() == twin
        if twin:
            index = torch.randint(0, len(twin), (17,), generator=generator)
            got = store.gather(index, ("rows", "birth"))
            assert got["birth"].tolist() == [twin[place] for place in index.tolist()]
            assert got["rows"][:, 1].long().tolist() == [-twin[place] for place in index.tolist()]


def test_appending_never_moves_what_is_held() -> None:
    store = filled(10)
    before = next(store.parts("rows")).data_ptr()
    store.append(rows(10, 2 * SLAB_ROWS))
    assert next(store.parts("rows")).data_ptr() == before


def test_slabs_are_at_most_their_size() -> None:
    store = filled(3 * SLAB_ROWS + 5)
    assert max(part.shape[0] for part in store.parts("birth")) <= SLAB_ROWS


def test_fork_shares_full_slabs_and_copies_the_open_one() -> None:
    store = filled(SLAB_ROWS + 100)
    twin = store.fork()
    own, other = ([part.data_ptr() for part in one.parts("rows")] for one in (store, twin))
    assert own[:-1] == other[:-1]
    assert own[-1] != other[-1]


def test_fork_then_append_evict_keep_or_replace_leaves_the_original_unchanged() -> None:
    store = filled(SLAB_ROWS + 100)
    before = {name: store.column(name).clone() for name in FIELDS}
    changes: tuple[Callable[[RamStore], None], ...] = (
        lambda twin: twin.append(rows(9000, 50)),
        lambda twin: twin.evict_oldest(SLAB_ROWS + 7),
        lambda twin: twin.keep(torch.arange(len(twin)) % 2 == 0),
        lambda twin: twin.set_column("birth", torch.zeros(len(twin), dtype=torch.int64)),
    )
    for change in changes:
        change(store.fork())
        assert all(torch.equal(store.column(name), value) for name, value in before.items())


def test_the_original_then_append_leaves_its_fork_unchanged() -> None:
    store = filled(5)
    twin = store.fork()
    store.append(rows(5, 5))
    assert twin.column("birth").tolist() == list(range(5))


def test_replaced_column_is_read_back_after_eviction() -> None:
    store = filled(SLAB_ROWS + 50)
    store.evict_oldest(30)
    fresh = torch.arange(len(store)) * 2
    store.set_column("birth", fresh)
    assert torch.equal(store.column("birth"), fresh)
    assert store.column("rows")[0, 0] == 30


def test_nothing_is_left_after_everything_was_evicted() -> None:
    store = filled(600)
    store.evict_oldest(10_000)
    assert len(store) == 0
    assert store.column("rows").shape == (0, 2)
    assert list(store.parts("birth")) == []
    store.append(rows(7, 2))
    assert store.column("birth").tolist() == [7, 8]


def test_size_counts_the_rows_held() -> None:
    assert filled(10).size_bytes == 10 * (2 * 4 + 8)


def test_slabs_hold_whole_blocks_when_asked() -> None:
    store = RamStore(FIELDS, row_multiple=24)
    for first in range(0, 24 * 500, 24 * 7):
        store.append(rows(first, 24 * 7))
    assert all(part.shape[0] % 24 == 0 for part in store.parts("birth"))
