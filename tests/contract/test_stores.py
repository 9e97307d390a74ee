"""Laws of rows by number, wherever they lie: RAM, the segments of a directory, mapped files. They are a plain table, whoever forked it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.memory.log import Extent, RowLog, Slab
from mplus.memory.stores.disk import DiskStorage
from mplus.memory.stores.segments import Segment, write_segment
from tests.conftest import TinyModel
from tests.tiny import SETUPS, contents, filled, ids, same_contents

LAYERS = 2
FIELDS = {
    "keys": ((LAYERS, 3), torch.bfloat16),
    "keys_scale": ((LAYERS,), torch.bfloat16),
    "search": ((4,), torch.float32),
    "levels": ((LAYERS, 2), torch.int8),
}
BYTES = 6 * 2 + 2 * 2 + 4 * 4 + 4
SEGMENT_ROWS = 40
Table = dict[int, int]
"""Number of a row to the value that its fields follow from."""


def mapped(path: Path) -> Callable[[RowLog], RowLog]:
    """Put all rows of a log into one file that is mapped, as those of a memory that was opened."""

    def put(log: RowLog) -> RowLog:
        in_ram = [extent for extent in log.extents if isinstance(extent.piece, Slab)]
        return log.moved(in_ram, write_segment(path, log.columns_of(in_ram), log.fields)) if in_ram else log

    path.mkdir()
    return put


PLACES: dict[str, Callable[[Path], tuple[RowLog, Callable[[RowLog], RowLog]]]] = {
    "ram": lambda path: (RowLog(FIELDS), lambda log: log),
    "directory": lambda path: (RowLog(FIELDS, storage=DiskStorage(path, segment_rows=SEGMENT_ROWS)), lambda log: log.flushed()),
    "mapped": lambda path: (RowLog(FIELDS), mapped(path)),
}
Place = tuple[RowLog, Callable[[RowLog], RowLog]]


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty log of each place, and what puts its rows there."""
    return PLACES[request.param](tmp_path / "rows")


def rows(values: list[int]) -> dict[str, Tensor]:
    """Rows whose every number follows from their value (small enough for bfloat16)."""
    value = torch.tensor(values, dtype=torch.int64)
    small = (value % 251).to(torch.bfloat16)
    return {
        "keys": torch.stack([small, -small], 1)[..., None].expand(-1, -1, 3),
        "keys_scale": torch.stack([small / 2, small / 4], 1),
        "search": value.float()[:, None] * torch.tensor([1.0, 0.5, -1.0, 2.0]),
        "levels": (value % 120)[:, None, None].expand(-1, LAYERS, 2).to(torch.int8),
    }


def appended(log: RowLog, values: list[int]) -> RowLog:
    return log.appended(rows(values))[0]


def check(log: RowLog, table: Table, generator: torch.Generator | None = None) -> None:
    """Compare a log with a table: counts, every row, some rows in any order and of one layer, and where they lie."""
    numbers = list(table)
    assert (len(log), log.size_bytes, log.start) == (len(table), BYTES * len(table), min(table, default=log.end))
    every = torch.tensor(numbers, dtype=torch.int64)
    wanted = rows(list(table.values()))
    got = log.gather(every, tuple(FIELDS))
    assert all(torch.equal(got[name], wanted[name]) and got[name].dtype == FIELDS[name][1] for name in FIELDS)
    asked = torch.arange(log.end + 3)
    assert log.holds(asked).tolist() == [number in table for number in asked.tolist()]
    for begin, count in ((0, log.end), (log.end // 3, log.end // 3)):
        extents = list(log.extents_of(begin, count))
        held = [number for extent in extents for number in range(extent.row, extent.stop)]
        assert held == [number for number in numbers if begin <= number < begin + count]
        if held:
            assert torch.equal(log.columns_of(extents)["search"], rows([table[number] for number in held])["search"])
    if generator is not None and numbers:
        some = every[torch.randint(0, len(numbers), (17,), generator=generator)]
        alike = rows([table[number] for number in some.tolist()])
        got = log.gather(some, ("search", "levels"))
        assert set(got) == {"search", "levels"}
        assert all(torch.equal(value, alike[name]) for name, value in got.items())
        got = log.gather(some, ("keys", "keys_scale"), layer=1)
        assert all(torch.equal(value, alike[name][:, 1]) for name, value in got.items())


def integer(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(0, high, (), generator=generator))


@pytest.mark.parametrize("seed", range(4))
def test_logs_and_their_forks_equal_tables_under_random_acts(place: Place, seed: int) -> None:
    """A fork is the value itself: both go on, whichever is faster."""
    generator = torch.Generator().manual_seed(seed)
    log, put = place
    held: list[tuple[RowLog, Table]] = [(log, {})]
    now = 0
    for _ in range(120):
        at, act = integer(len(held), generator), integer(14, generator)
        log, table = held[at]
        if act < 6:
            fresh = list(range(now, now + 1 + integer(3 * SEGMENT_ROWS, generator)))
            table = {**table, **{log.end + step: value for step, value in enumerate(fresh)}}
            log, now = appended(log, fresh), now + len(fresh)
        elif act == 6:
            log = put(log)
        elif act == 7:
            log = log.reserved(1 + integer(2 * SEGMENT_ROWS, generator))
        elif act == 8:
            first = log.start + integer(2 * SEGMENT_ROWS, generator)
            log, table = log.trimmed(first), {number: value for number, value in table.items() if number >= first}
        elif act == 9:
            begin, count = integer(log.end + 1, generator), integer(SEGMENT_ROWS, generator)
            log = log.without([(begin, count), (begin + 2 * count, 3)])
            gone = {*range(begin, begin + count), *range(begin + 2 * count, begin + 2 * count + 3)}
            table = {number: value for number, value in table.items() if number not in gone}
        elif act == 10:
            log = log.compacted()
        elif act == 11:
            log = log.with_gap_to(log.end + integer(5, generator))
        elif act == 12 and len(held) < 4:
            held.append((log, dict(table)))
        elif act == 13 and len(held) > 1:
            del held[at]
            continue
        held[at] = (log, table)
        for one, alike in held:
            check(one, alike, generator)


def test_rows_of_another_log_are_linked_not_copied(place: Place, tmp_path: Path) -> None:
    """As a memory takes in what another one of the process has encoded."""
    log, put = place
    other = put(appended(log, list(range(3 * SEGMENT_ROWS))))
    mine = appended(RowLog(FIELDS), [900, 901])
    for extent in other.extents_of(7, SEGMENT_ROWS):
        mine, where = mine.linked(extent)
        assert where.part(FIELDS, "search").data_ptr() == extent.part(FIELDS, "search").data_ptr()
    mine = appended(mine, [902])
    expected = [900, 901, *range(7, 7 + SEGMENT_ROWS), 902]
    check(mine, dict(enumerate(expected)))
    check(other, {number: number for number in range(3 * SEGMENT_ROWS)})


def test_appending_and_forgetting_move_no_row_that_stays(place: Place) -> None:
    log, put = place
    before = put(appended(log, list(range(3 * SEGMENT_ROWS))))
    where = {extent.row: extent.part(FIELDS, "search").data_ptr() for extent in before.extents}
    after = appended(before, list(range(500, 500 + SEGMENT_ROWS)))
    assert {extent.row: extent.part(FIELDS, "search").data_ptr() for extent in after.extents_of(0, 3 * SEGMENT_ROWS)} == where
    kept = before.trimmed(5).without([(50, 10)])
    for extent in kept.extents:
        (held,) = list(before.extents_of(extent.row, extent.rows))
        assert extent.part(FIELDS, "search").data_ptr() == held.part(FIELDS, "search").data_ptr()


def test_fork_then_change_leaves_the_original_unchanged(place: Place) -> None:
    log, put = place
    values = list(range(2 * SEGMENT_ROWS + 11))
    table = dict(enumerate(values))
    original = put(appended(log, values))
    changes: tuple[Callable[[RowLog], RowLog], ...] = (
        lambda twin: appended(twin, list(range(500, 500 + 2 * SEGMENT_ROWS))),
        lambda twin: twin.trimmed(SEGMENT_ROWS + 7),
        lambda twin: twin.without([(3, 9)]),
        lambda twin: twin.empty(),
        lambda twin: appended(twin.empty(), [3]),
        lambda twin: appended(twin.trimmed(30).compacted(), [3]),
    )
    for change in changes:
        changed = change(original)
        assert (len(changed), changed.end) != (len(original), original.end)
        check(original, table)
    first, second = appended(original, [70, 71]), appended(original, [80])
    check(first, {**table, len(values): 70, len(values) + 1: 71})
    check(second, {**table, len(values): 80})


def test_nothing_is_left_after_everything_was_forgotten(place: Place) -> None:
    log, put = place
    log = put(appended(log, list(range(3 * SEGMENT_ROWS)))).trimmed(10_000)
    assert (len(log), log.size_bytes, log.extents) == (0, 0, ())
    check(appended(log, [7, 8]), {3 * SEGMENT_ROWS: 7, 3 * SEGMENT_ROWS + 1: 8})


def test_rows_that_are_gone_are_refused(place: Place) -> None:
    log, put = place
    log = put(appended(log, list(range(SEGMENT_ROWS)))).without([(4, 2)])
    with pytest.raises(IndexError, match="row 5 was asked for"):
        log.gather(torch.tensor([3, 5]), ("search",))
    assert log.extent_of(3, 2) is None and log.extent_of(6, 5) is not None


def test_reserved_rows_are_appended_without_a_new_piece(place: Place) -> None:
    log, _ = place
    log = appended(log, list(range(SEGMENT_ROWS // 2))).reserved(SEGMENT_ROWS)
    assert log.reserved(SEGMENT_ROWS) is log
    check(log, {number: number for number in range(SEGMENT_ROWS // 2)})
    slabs = {id(slab) for slab in (*log.spare, *([log.open[0]] if log.open else []))}
    after, where = log.appended(rows(list(range(SEGMENT_ROWS))))
    assert id(where.piece) in slabs and len(after) == SEGMENT_ROWS // 2 + SEGMENT_ROWS


def test_appended_rows_are_converted_and_copied(place: Place) -> None:
    log, _ = place
    given = rows([1, 2])
    given["search"] = given["search"].double()
    given = {name: value.clone() for name, value in given.items()}
    log, _ = log.appended(given)
    given["search"].zero_()
    check(log, {0: 1, 1: 2})


def test_a_directory_holds_what_fills_a_segment_and_nothing_of_what_is_gone(tmp_path: Path) -> None:
    log = RowLog(FIELDS, storage=DiskStorage(tmp_path / "rows", segment_rows=SEGMENT_ROWS))
    for start in range(0, 10 * SEGMENT_ROWS, SEGMENT_ROWS // 4):
        log = appended(log, list(range(start, start + SEGMENT_ROWS // 4)))
    in_ram = sum(extent.rows for extent in log.extents if isinstance(extent.piece, Slab))
    assert in_ram <= 2 * SEGMENT_ROWS
    before = len(list((tmp_path / "rows").glob("segment-*")))
    log = log.trimmed(5 * SEGMENT_ROWS + 1)
    files = {extent.piece.path for extent in log.extents if isinstance(extent.piece, Segment)}
    assert set((tmp_path / "rows").glob("segment-*")) == files and len(files) < before
    check(log, {number: number for number in range(5 * SEGMENT_ROWS + 1, 10 * SEGMENT_ROWS)})


def test_extents_that_lie_behind_each_other_are_one(place: Place) -> None:
    log, _ = place
    for value in range(30):
        log = appended(log, [value])
    assert log.extents == (Extent(log.extents[0].piece, 0, 30, 0),)
    assert len(replace(log, open=None).appended(rows([3]))[0].extents) == 2


# -- memories --------------------------------------------------------------------------------------------------------


def lives(model: MPlusModel, memory_format: Any, path: Path) -> list[Memory]:
    """The same memory with its rows in every place they may lie in."""
    ram = filled(model, 200, memory_format=memory_format)
    disk = filled(model, 200, memory_format=memory_format, store=DiskStorage(path / "directory", segment_rows=24))
    other = filled(model, 200, memory_format=memory_format, store=DiskStorage(path / "saved", segment_rows=24))
    other.save(path / "other")
    ram.save(path / "files")
    ram.save(path / "goes on")
    mapped_only = Memory.load(path / "files", model)
    in_ram = Memory.load(path / "files", model, store="ram")
    goes_on = Memory.load(path / "goes on", model, store=path / "goes on")
    adopted = Memory.load(path / "files", model, store=path / "adopted")
    return [ram, disk, Memory.load(path / "other", model), mapped_only, in_ram, goes_on, adopted, disk.fork(), mapped_only.fork()]


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_a_memory_is_the_same_wherever_its_rows_lie(
    tiny_model: TinyModel, setup: str, memory_format: Any, tmp_path: Path
) -> None:
    """What it holds and reads, at once and after more was written, with a capacity that forgets rows by then."""
    model = tiny_model("llama", setup, ltm_capacity=160)
    first, *others = lives(model, memory_format, tmp_path)
    prompt = ids(6, 12)[None]
    for _ in range(2):
        wanted, logits = contents(first), model(prompt, memory=first).logits
        for other in others:
            assert same_contents(wanted, contents(other))
            assert torch.equal(model(prompt, memory=other).logits, logits)
        for memory in (first, *others):
            memory.write(ids(60, 77), share=False)
    assert first.now > 160 + len(first.short_term)


def test_files_of_a_replaced_state_go_although_its_memory_lives_on(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Its rows lie in RAM too, so it misses none of them: it reads and is saved as before."""
    model = tiny_model("llama", "shared")
    first, second = filled(model, 60), filled(model, 60, seed=4, text_seed=5)
    wanted = contents(first)
    first.save(tmp_path / "m")
    second.save(tmp_path / "m")
    second.save(tmp_path / "fresh")
    assert {path.name for path in (tmp_path / "m").glob("segment-*")} == {
        path.name for path in (tmp_path / "fresh").glob("segment-*")
    }
    assert same_contents(wanted, contents(first))
    first.save(tmp_path / "again")
    assert same_contents(wanted, contents(Memory.load(tmp_path / "again", model)))
