"""Laws of slabs in RAM: held rows never move, forks share what is full. What every store obeys is in tests/contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mplus.memory.stores.ram import FIRST_SLAB_ROWS, SLAB_ROWS, RamStore
from torch import Tensor

from mplus.memory.stores import ram

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


def test_a_fork_copies_no_row_and_neither_sees_what_the_other_adds() -> None:
    store = filled(SLAB_ROWS + 100)
    twin = store.fork()
    third = twin.fork()
    for one in (twin, third):
        assert [part.data_ptr() for part in one.parts("rows")] == [part.data_ptr() for part in store.parts("rows")]
    births = list(range(SLAB_ROWS + 100))
    for first, one in ((1_000_000, twin), (2_000_000, store), (3_000_000, third)):
        one.append(rows(first, 70))
    for first, one in ((1_000_000, twin), (2_000_000, store), (3_000_000, third)):
        assert one.column("birth").tolist() == births + list(range(first, first + 70))


def test_rows_that_are_not_there_are_refused() -> None:
    store = filled(10)
    for place in (10, -1):
        with pytest.raises(IndexError, match="10 are held"):
            store.gather(torch.tensor([0, place]), ("rows",))


def test_room_made_for_rows_is_filled_next_and_nothing_is_allocated_then(monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(200)
    store.reserve(SLAB_ROWS + 300)
    store.reserve(SLAB_ROWS + 300)
    assert len(store) == 200 and len(list(store.parts("birth"))) == 1
    monkeypatch.setattr(ram, "host_empty", refused)
    store.append(rows(200, SLAB_ROWS + 300))
    assert store.column("birth").tolist() == list(range(SLAB_ROWS + 500))
    twin_rows = len(store) - sum(part.shape[0] for part in list(store.parts("birth"))[:-1])
    with pytest.raises(RuntimeError, match="can't allocate"):
        store.append(rows(0, 3 * SLAB_ROWS - twin_rows))
    assert store.column("birth").tolist() == list(range(SLAB_ROWS + 500)), "none of the rows that found no room was added"


def refused(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1234 bytes.")


# -- pinned slabs ----------------------------------------------------------------------------------------------------


def test_slabs_and_gathered_rows_are_pinned_where_cuda_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[tuple[int, ...]] = []
    plain = torch.empty

    def noted(shape: Any, *, dtype: torch.dtype, device: str | None = None, pin_memory: bool = False) -> Tensor:
        if pin_memory:
            pinned.append(tuple(shape))
        return plain(shape, dtype=dtype, device=device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", noted)
    store = filled(10)
    slab = [(FIRST_SLAB_ROWS, 2), (FIRST_SLAB_ROWS,)]
    assert pinned == slab
    assert store.gather(torch.tensor([3, 1]), ("birth",))["birth"].tolist() == [3, 1]
    assert pinned[2:] == [(2,)]


def test_rows_stay_pageable_and_a_line_says_so_where_pinning_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = torch.empty

    def limited(shape: Any, *, dtype: torch.dtype, device: str | None = None, pin_memory: bool = False) -> Tensor:
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")
        return plain(shape, dtype=dtype, device=device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", limited)
    store = filled(10)
    monkeypatch.undo()
    assert store.column("birth").tolist() == list(range(10))
    assert "cannot be pinned (CUDA error: out of memory); copies to the GPU will be slower" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_slabs_are_really_pinned() -> None:
    store = filled(10)
    assert next(store.parts("rows")).is_pinned()
    assert store.gather(torch.tensor([1]), ("rows",))["rows"].is_pinned()
