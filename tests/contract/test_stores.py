"""Laws of every long-term store, wherever its rows live: a plain list, forks that never disturb each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mplus.memory.stores.protocol import Storage, Store, pieces
from mplus.memory.stores.ram import RamStorage
from torch import Tensor

from mplus.memory.stores.disk import DiskStorage

FIELDS = {
    "rows": ((2, 3), torch.bfloat16),
    "search": ((4,), torch.float32),
    "birth": ((), torch.int64),
    "frequency": ((), torch.float32),
}
SEGMENT_ROWS = 40
STORAGES: dict[str, Callable[[Path], Storage]] = {
    "ram": lambda path: RamStorage(),
    "disk": lambda path: DiskStorage(path, segment_rows=SEGMENT_ROWS),
}


@pytest.fixture(params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each place rows can live in."""
    return STORAGES[request.param](tmp_path / "store")


def rows(births: list[int]) -> dict[str, Tensor]:
    """Rows whose every number follows from the birth (small enough for bfloat16)."""
    birth = torch.tensor(births, dtype=torch.int64)
    small = (birth % 251).to(torch.bfloat16)
    return {
        "rows": torch.stack([small, -small], -1)[..., None].expand(-1, -1, 3),
        "search": birth.float()[:, None] * torch.tensor([1.0, 0.5, -1.0, 2.0]),
        "birth": birth,
        "frequency": birth.float() / 8,
    }


def same(store: Store, births: list[int]) -> bool:
    """Whether a store holds exactly the rows of these births, seen through `column` and through `parts`."""
    wanted = rows(births)
    by_part = {name: torch.cat([torch.empty(0, *FIELDS[name][0], dtype=FIELDS[name][1]), *store.parts(name)]) for name in FIELDS}
    return len(store) == len(births) and all(
        torch.equal(store.column(name), wanted[name]) and torch.equal(by_part[name], wanted[name]) for name in FIELDS
    )


def integer(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(0, high, (), generator=generator))


@pytest.mark.parametrize("seed", range(4))
def test_stores_and_their_forks_equal_plain_lists_under_random_acts(storage: Storage, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    held: list[tuple[Store, list[int]]] = [(storage.new_store(FIELDS, 1), [])]
    now = 0
    for _ in range(120):
        place, act = integer(len(held), generator), integer(12, generator)
        store, births = held[place]
        if act < 6:
            fresh = list(range(now, now + integer(3 * SEGMENT_ROWS, generator)))
            store.append(rows(fresh))
            births, now = births + fresh, now + len(fresh)
        elif act < 8:
            count = integer(2 * SEGMENT_ROWS, generator)
            store.evict_oldest(count)
            births = births[count:]
        elif act == 8:
            mask = torch.rand(len(births), generator=generator) < 0.7
            store.keep(mask)
            births = [birth for birth, kept in zip(births, mask.tolist(), strict=True) if kept]
        elif act == 9:
            oldest = integer(len(births) + 1, generator)
            store.keep(torch.arange(len(births)) >= oldest)
            births = births[oldest:]
        elif act == 10 and len(held) < 4:
            held.append((store.fork(), list(births)))
        elif act == 11 and len(held) > 1:
            store.close()
            del held[place]
            continue
        held[place] = (store, births)
        assert all(same(one, twin) for one, twin in held)
        if births:
            index = torch.randint(0, len(births), (17,), generator=generator)
            got, wanted = store.gather(index, ("rows", "birth")), rows([births[at] for at in index.tolist()])
            assert set(got) == {"rows", "birth"}
            assert all(torch.equal(value, wanted[name]) for name, value in got.items())


@pytest.mark.parametrize("multiple", [1, 7, 24])
def test_no_piece_cuts_a_block_of_neighbours(storage: Storage, multiple: int) -> None:
    generator = torch.Generator().manual_seed(multiple)
    store = storage.new_store(FIELDS, multiple)
    births: list[int] = []
    for step in range(40):
        fresh = list(range(1000 * step, 1000 * step + multiple * integer(12, generator)))
        store.append(rows(fresh))
        births += fresh
        if step % 5 == 3:
            gone = multiple * integer(6, generator)
            store.evict_oldest(gone)
            births = births[gone:]
        if step % 9 == 8:
            mask = (torch.rand(len(births) // multiple, generator=generator) < 0.8).repeat_interleave(multiple)
            store.keep(mask)
            births = [birth for birth, kept in zip(births, mask.tolist(), strict=True) if kept]
        assert all(part.shape[0] % multiple == 0 for part in store.parts("search"))
        assert same(store, births)


def test_pieces_of_all_fields_stand_side_by_side(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    store.append(rows(list(range(3 * SEGMENT_ROWS + 5))))
    store.evict_oldest(3)
    assert torch.equal(torch.cat([piece["search"][:, 0] for piece in pieces(store)]).long(), store.column("birth"))
    assert all(piece["search"][:, 0].long().tolist() == piece["birth"].tolist() for piece in pieces(store))


def test_parts_are_not_copied(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    store.append(rows(list(range(3 * SEGMENT_ROWS))))
    assert [part.data_ptr() for part in store.parts("search")] == [part.data_ptr() for part in store.parts("search")]


def test_replaced_column_survives_appending_evicting_and_keeping(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    store.append(rows(list(range(3 * SEGMENT_ROWS + 5))))
    store.evict_oldest(7)
    fresh = torch.arange(len(store)).float() * 3
    store.set_column("frequency", fresh)
    assert torch.equal(store.column("frequency"), fresh)
    store.append(rows([9000]))
    store.evict_oldest(SEGMENT_ROWS)
    kept = torch.arange(len(store)) % 2 == 0
    store.keep(kept)
    assert torch.equal(store.column("frequency"), torch.cat([fresh[SEGMENT_ROWS:], torch.tensor([1125.0])])[kept])
    assert store.gather(torch.tensor([0]), ("frequency", "birth"))["frequency"].tolist() == [SEGMENT_ROWS * 3]


def test_fork_then_change_leaves_the_original_unchanged(storage: Storage) -> None:
    births = list(range(2 * SEGMENT_ROWS + 11))
    store = storage.new_store(FIELDS, 1)
    store.append(rows(births))
    changes: tuple[Callable[[Store], None], ...] = (
        lambda twin: twin.append(rows(list(range(500, 500 + 2 * SEGMENT_ROWS)))),
        lambda twin: twin.evict_oldest(SEGMENT_ROWS + 7),
        lambda twin: twin.keep(torch.arange(len(twin)) % 2 == 0),
        lambda twin: twin.set_column("birth", torch.zeros(len(twin), dtype=torch.int64)),
        lambda twin: twin.close(),
    )
    for change in changes:
        twin = store.fork()
        change(twin)
        assert not same(twin, births)
        assert same(store, births)
        twin = store.fork()
        original = twin.fork()
        change(twin)
        assert same(original, births)


def test_nothing_is_left_after_everything_was_evicted(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    store.append(rows(list(range(3 * SEGMENT_ROWS))))
    store.evict_oldest(10_000)
    assert len(store) == store.size_bytes == 0
    assert store.column("rows").shape == (0, 2, 3)
    assert list(store.parts("birth")) == []
    store.append(rows([7, 8]))
    assert same(store, [7, 8])


def test_settling_changes_no_row(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    births = list(range(SEGMENT_ROWS))
    store.append(rows(births))
    store.reserve()
    store.reserve()
    assert same(store, births)


def test_size_counts_the_rows_held(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    store.append(rows(list(range(2 * SEGMENT_ROWS + 1))))
    store.evict_oldest(1)
    assert store.size_bytes == 2 * SEGMENT_ROWS * (6 * 2 + 4 * 4 + 8 + 4)


def test_appended_rows_are_converted_and_copied(storage: Storage) -> None:
    store = storage.new_store(FIELDS, 1)
    given = rows([1, 2])
    given["search"] = given["search"].double()
    store.append(given)
    given["birth"].zero_()
    assert same(store, [1, 2])
