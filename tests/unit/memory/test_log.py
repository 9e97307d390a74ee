"""Laws of the row log, in RAM and sealed to a directory: rows keep their numbers, versions share pieces and never see each other."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.memory import log as row_log
from mplus.memory.log import Extent, RowLog, Slab, joined
from mplus.memory.stores.disk import DiskStorage
from mplus.memory.stores.segments import Segment

FIELDS = {"rows": ((2,), torch.float32), "birth": ((), torch.int64)}
SEGMENT_ROWS = 12


def rows(first: int, count: int) -> dict[str, Tensor]:
    births = torch.arange(first, first + count)
    return {"rows": torch.stack([births, -births], -1).float(), "birth": births}


def filled(count: int, storage: DiskStorage | None = None) -> RowLog:
    """A log of so many rows, whose births are their numbers."""
    made, _ = RowLog(FIELDS, storage=storage).appended(rows(0, count))
    return made


def numbers(log: RowLog) -> list[int]:
    """Numbers of all rows that are held."""
    return [row for extent in log.extents for row in range(extent.row, extent.stop)]


def births(log: RowLog) -> list[int]:
    """What all rows say of themselves."""
    return log.gather(torch.tensor(numbers(log), dtype=torch.int64), ("birth",))["birth"].tolist()


def pieces(log: RowLog) -> list[Slab | Segment]:
    return list({id(extent.piece): extent.piece for extent in log.extents}.values())


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_log, "FIRST_SLAB_ROWS", 4)
    monkeypatch.setattr(row_log, "SLAB_ROWS", 16)


# -- against plain dictionaries --------------------------------------------------------------------------------------


class Twins:
    """A log, and what it is to hold by number."""

    def __init__(self, log: RowLog, held: dict[int, int], end: int) -> None:
        self.log, self.held, self.end = log, held, end

    def check(self, chooser: random.Random) -> None:
        known = sorted(self.held)
        assert numbers(self.log) == known and births(self.log) == [self.held[number] for number in known]
        assert (len(self.log), self.log.end, self.log.start) == (len(known), self.end, known[0] if known else self.end)
        assert self.log.size_bytes == len(known) * (2 * 4 + 8)
        asked = list(range(-2, self.end + 2))
        assert self.log.holds(torch.tensor(asked)).tolist() == [number in self.held for number in asked]
        wanted = [chooser.choice(known) for _ in range(7)] if known else []
        got = self.log.gather(torch.tensor(wanted, dtype=torch.int64), ("rows", "birth"))
        assert got["birth"].tolist() == [self.held[number] for number in wanted]
        assert got["rows"].tolist() == [[self.held[number], -self.held[number]] for number in wanted]
        first, count = chooser.randrange(self.end + 1), chooser.randrange(1, 20)
        parts = list(self.log.extents_of(first, count))
        assert [row for part in parts for row in range(part.row, part.stop)] == [
            number for number in known if first <= number < first + count
        ]
        for part in parts:
            assert part.part(FIELDS, "birth").tolist() == [self.held[number] for number in range(part.row, part.stop)]
        whole = self.log.extent_of(first, count)
        assert (whole is not None) == (len(parts) == 1 and parts[0].rows == count)


def stepped(twins: Twins, others: list[Twins], fresh: int, chooser: random.Random) -> Twins:
    """A version that follows from one by a random step."""
    log, held, end = twins.log, twins.held, twins.end
    match chooser.choice(["append"] * 5 + ["reserve", "gap", "trim", "without", "without", "compact", "link", "seal", "empty"]):
        case "append":
            count = chooser.randrange(1, 15)
            after, extent = log.appended(rows(fresh, count))
            assert (extent.row, extent.rows) == (end, count) and extent.part(FIELDS, "birth").tolist()[0] == fresh
            return Twins(after, {**held, **{end + step: fresh + step for step in range(count)}}, end + count)
        case "reserve":
            return Twins(log.reserved(chooser.randrange(1, 40)), held, end)
        case "gap":
            to = end + chooser.randrange(-3, 9)
            return Twins(log.with_gap_to(to), held, max(end, to))
        case "trim":
            number = chooser.randrange(end + 1)
            return Twins(log.trimmed(number), {row: birth for row, birth in held.items() if row >= number}, end)
        case "without":
            gone = [(chooser.randrange(end + 1), chooser.randrange(1, 6)) for _ in range(3)]
            out = {row for first, count in gone for row in range(first, first + count)}
            return Twins(log.without(gone), {row: birth for row, birth in held.items() if row not in out}, end)
        case "compact":
            after = log.compacted()
            assert all(
                isinstance(piece, Segment) or sum(one.rows for one in after.extents if one.piece is piece) == piece.taken
                for piece in pieces(after)
            ), "no row of anybody else is kept alive"
            return Twins(after, held, end)
        case "link":
            giver = chooser.choice(others)
            if not giver.log.extents:
                return twins
            given = chooser.choice(giver.log.extents)
            after, extent = log.linked(given)
            assert (extent.row, extent.rows, extent.piece) == (end, given.rows, given.piece)
            more = {end + step: giver.held[given.row + step] for step in range(given.rows)}
            return Twins(after, {**held, **more}, end + given.rows)
        case "seal":
            return Twins(log.flushed(), held, end)
        case _:
            return Twins(log.empty(), {}, 0) if chooser.random() < 0.3 else twins


@pytest.mark.parametrize("where", ["ram", "disk"])
@pytest.mark.parametrize("seed", range(6))
def test_every_version_equals_a_plain_dictionary_whatever_the_others_did(
    small_slabs: None, tmp_path: Path, where: str, seed: int
) -> None:
    chooser = random.Random(seed)
    storage = DiskStorage(tmp_path / "rows", segment_rows=SEGMENT_ROWS) if where == "disk" else None
    versions = [Twins(RowLog(FIELDS, storage=storage), {}, 0)]
    for step in range(120):
        before = versions[-1] if chooser.random() < 0.7 else chooser.choice(versions)
        versions.append(stepped(before, versions, 1000 * step, chooser))
        versions[-1].check(chooser)
    for one in versions:
        one.check(chooser)
    if storage is not None:
        on_disk = {piece.name for one in versions for piece in pieces(one.log) if isinstance(piece, Segment)}
        assert {path.name for path in (tmp_path / "rows").glob("segment-*")} == on_disk and len(on_disk) > 3


# -- slabs -----------------------------------------------------------------------------------------------------------


def test_appending_never_moves_what_is_held() -> None:
    log = filled(10)
    before = log.extents[0].part(FIELDS, "rows").data_ptr()
    for step in range(5):
        log, _ = log.appended(rows(10 + 40 * step, 40))
    assert log.extents[0].part(FIELDS, "rows").data_ptr() == before
    assert log.extents[0].rows == 210 and births(log) == list(range(210))


def test_slabs_double_up_to_the_smaller_of_rows_and_bytes(monkeypatch: pytest.MonkeyPatch, small_slabs: None) -> None:
    log = RowLog(FIELDS)
    for step in range(60):
        log, _ = log.appended(rows(step, 1))
    assert [piece.capacity for piece in pieces(log) if isinstance(piece, Slab)] == [4, 8, 16, 16, 16]
    assert births(log) == list(range(60))
    monkeypatch.setattr(row_log, "SLAB_BYTES", 6 * 16)
    log = RowLog(FIELDS)
    for step in range(20):
        log, _ = log.appended(rows(step, 1))
    assert [piece.capacity for piece in pieces(log) if isinstance(piece, Slab)] == [4, 6, 6, 6]


def test_rows_of_one_write_lie_together_however_many_they_are(small_slabs: None) -> None:
    log, extent = filled(3).appended(rows(3, 50))
    assert extent.rows == 50 and len(log.extents) == 2 and births(log) == list(range(53))


def test_a_version_copies_no_row_and_none_sees_what_another_adds() -> None:
    log = filled(100)
    versions = [log.appended(rows(first, 70))[0] for first in (1000, 2000, 3000)]
    for first, one in zip((1000, 2000, 3000), versions, strict=True):
        assert one.extents[0].part(FIELDS, "rows").data_ptr() == log.extents[0].part(FIELDS, "rows").data_ptr()
        assert births(one) == [*range(100), *range(first, first + 70)]
    assert len(pieces(versions[0])) == 1 and len(pieces(versions[1])) == 2, "only one goes on filling the slab"
    assert births(log) == list(range(100))


def test_rows_that_are_not_there_are_refused() -> None:
    log = filled(10).without([(4, 2)]).with_gap_to(14)
    for number in (-1, 4, 5, 10, 13, 14):
        with pytest.raises(IndexError, match=f"row {number} was asked for, which the log does not hold"):
            log.gather(torch.tensor([0, number]), ("rows",))


def test_one_layer_of_fields_that_hold_all_layers() -> None:
    fields = {"keys": ((3, 2), torch.float32)}
    value = torch.arange(24.0).view(4, 3, 2)
    log, _ = RowLog(fields).appended({"keys": value})
    assert torch.equal(log.gather(torch.tensor([3, 1, 1]), ("keys",), layer=2)["keys"], value[[3, 1, 1], 2])
    assert torch.equal(log.gather(torch.tensor([3, 1, 1]), ("keys",))["keys"], value[[3, 1, 1]])


def test_room_made_for_rows_is_filled_next_and_nothing_is_allocated_then(
    monkeypatch: pytest.MonkeyPatch, small_slabs: None
) -> None:
    log = filled(10).reserved(300)
    assert log.reserved(300) is log and len(log) == 10
    monkeypatch.setattr(row_log, "host_empty", refused)
    after, _ = log.appended(rows(10, 300))
    assert births(after) == list(range(310))
    with pytest.raises(RuntimeError, match="can't allocate"):
        after.appended(rows(310, 5))
    with pytest.raises(RuntimeError, match="can't allocate"):
        after.reserved(5)
    assert births(after) == list(range(310)), "none of the rows that found no room was added"


def refused(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1234 bytes.")


def test_compacting_lets_go_of_slabs_that_hold_the_rows_of_nobody_here(small_slabs: None) -> None:
    log = filled(0 + 16)
    for step in range(1, 6):
        log, _ = log.appended(rows(16 * step, 16))
    slabs = [weakref.ref(piece) for piece in pieces(log)]
    left = log.without([(20, 70)])
    del log
    gc.collect()
    held = sum(slab() is not None for slab in slabs)
    left = left.compacted()
    gc.collect()
    assert sum(slab() is not None for slab in slabs) < held
    assert numbers(left) == births(left) == [*range(20), *range(90, 96)] and left.end == 96
    after, extent = left.appended(rows(500, 2))
    assert extent.row == 96 and births(after)[-2:] == [500, 501]


def test_forks_that_append_in_threads_at_once_each_keep_their_own_rows(small_slabs: None) -> None:
    base, grown, gate = filled(6), dict[int, RowLog](), threading.Barrier(4)

    def grows(number: int) -> None:
        log = base
        gate.wait()
        for step in range(150):
            log, _ = log.appended(rows(10_000 * (number + 1) + 3 * step, 3))
        grown[number] = log

    threads = [threading.Thread(target=grows, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert births(grown[number]) == [*range(6), *range(10_000 * (number + 1), 10_000 * (number + 1) + 450)]
    assert births(base) == list(range(6))


# -- extents ---------------------------------------------------------------------------------------------------------


def test_extents_are_cut_by_number() -> None:
    extent = Extent(Slab({"birth": torch.arange(100)}), 10, 20, 300)
    assert extent.stop == 320
    assert extent.cut(0, 1000) == extent
    assert extent.cut(305, 308)[1:] == (15, 3, 305)
    assert extent.cut(310, 400)[1:] == (20, 10, 310)
    assert extent.cut(0, 300).rows == 0 and extent.cut(0, 100).rows < 1


def test_extents_are_joined_only_where_both_place_and_number_go_on() -> None:
    slab, other = (Slab({"birth": torch.arange(100)}) for _ in range(2))
    first = Extent(slab, 0, 5, 0)
    assert joined([first, Extent(slab, 5, 3, 5)]) == (Extent(slab, 0, 8, 0),)
    for apart in (Extent(slab, 5, 3, 6), Extent(slab, 6, 3, 5), Extent(other, 5, 3, 5)):
        assert joined([first, apart]) == (first, apart)
    assert joined([Extent(slab, 5, 0, 5), first]) == (first,)
    assert joined([first], before=(Extent(other, 0, 1, -1),)) == (Extent(other, 0, 1, -1), first)


# -- sealing ---------------------------------------------------------------------------------------------------------


def test_only_what_fills_no_segment_stays_in_ram(tmp_path: Path) -> None:
    log = RowLog(FIELDS, storage=DiskStorage(tmp_path / "rows", segment_rows=SEGMENT_ROWS))
    for step in range(21):
        log, _ = log.appended(rows(3 * step, 3))
        in_ram = sum(extent.rows for extent in log.extents if isinstance(extent.piece, Slab))
        assert in_ram <= SEGMENT_ROWS
    assert births(log) == list(range(63)) and sum(isinstance(piece, Segment) for piece in pieces(log)) == 5


def test_sealing_leaves_versions_before_it_in_ram_and_whole(tmp_path: Path) -> None:
    log = filled(SEGMENT_ROWS, DiskStorage(tmp_path / "rows", segment_rows=SEGMENT_ROWS))
    sealed = log.flushed()
    assert [type(piece) for piece in pieces(log)] == [Slab] and [type(piece) for piece in pieces(sealed)] == [Segment]
    assert births(log) == births(sealed) == list(range(SEGMENT_ROWS))
    assert sealed.flushed() is sealed and filled(SEGMENT_ROWS - 1, log.storage).flushed().extents[0].piece.__class__ is Slab


def test_a_log_without_a_directory_is_never_sealed() -> None:
    log = filled(1000)
    assert log.flushed() is log


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
    log = filled(10)
    assert pinned == [(row_log.FIRST_SLAB_ROWS, 2), (row_log.FIRST_SLAB_ROWS,)]
    assert log.gather(torch.tensor([3, 1]), ("birth",))["birth"].tolist() == [3, 1]
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
    log = filled(10)
    monkeypatch.undo()
    assert births(log) == list(range(10))
    assert "cannot be pinned (CUDA error: out of memory); copies to the GPU will be slower" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_slabs_are_really_pinned() -> None:
    log = filled(10)
    assert log.extents[0].part(FIELDS, "rows").is_pinned()
    assert log.gather(torch.tensor([1]), ("rows",))["rows"].is_pinned()
