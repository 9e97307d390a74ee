"""Laws of slabs in RAM: held rows never move, forks share what is full. What every store obeys is in tests/contract."""

from __future__ import annotations

import torch
from torch import Tensor

from mplus.memory.stores.ram import SLAB_ROWS, RamStore

FIELDS = {"rows": ((2,), torch.float32), "birth": ((), torch.int64)}


def rows(first: int, count: int) -> dict[str, Tensor]:
    births = torch.arange(first, first + count)
    return {"rows": torch.stack([births, -births], -1).float(), "birth": births}


def filled(count: int) -> RamStore:
    store = RamStore(FIELDS)
    store.append(rows(0, count))
    return store


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
