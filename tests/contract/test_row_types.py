"""Laws of rows in every number type, wherever they lie: each is rounded alone, once, and has that value for life.

Legend: L layers, H kv heads, E head width, F search key width, k rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.synthetic_memory import fill_short, grow_long
from benchmarks.work import work_of
from mplus import Memory, MPlusModel
from mplus.memory import long_term as long_term_module
from mplus.memory.log import RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import LongGroup, Placement
from mplus.memory.row_codec import RowCodec, dequantise, quantise
from mplus.memory.rows import EncodedChunk, RowLayout, Rows
from mplus.memory.stores.disk import DiskStorage
from mplus.settings import Geometry
from tests.conftest import TinyModel
from tests.tiny import contents, ids, same_contents, tiny_geometry, tiny_model

LAYERS, HEADS, WIDTH, SEARCH = 2, 2, 3, 5
BLOCK = 4  # of tiny_geometry
SEGMENT_ROWS = 24
STORAGES: dict[str, Callable[[Path], DiskStorage | None]] = {
    "ram": lambda path: None,
    "disk": lambda path: DiskStorage(path, segment_rows=SEGMENT_ROWS),
}
TYPES: list[tuple[Any, Any]] = [
    ("model", "model"),
    ("bfloat16", "bfloat16"),
    ("float16", "int8"),
    ("int8", "model"),
    ("int8", "int8"),
]


@pytest.fixture(params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> DiskStorage | None:
    """Each place rows can live in."""
    return STORAGES[request.param](tmp_path / "store")


def layout_of(retrieval: str, layers: int = LAYERS) -> RowLayout:
    return RowLayout(
        format="kv",
        layers=layers,
        fields={"keys": (HEADS, WIDTH), "values": (HEADS, WIDTH), "search": (SEARCH,)},
        search_groups=1 if retrieval == "shared" else layers,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


class Held:
    """Long-term rows of one group, as a memory changes them."""

    def __init__(self, storage: DiskStorage | None, types: tuple[str, str]) -> None:
        self.layout = layout_of("shared")
        self.geometry = tiny_geometry(ltm_dtype=types[0], ltm_search_dtype=types[1], ltm_capacity=10_000)
        self.codec = RowCodec(self.layout, self.geometry)
        self.log, self.group = RowLog(self.codec.fields, storage=storage), LongGroup()

    def append(self, births: list[int]) -> None:
        self.log, where = self.log.appended(self.codec.stored(written(births)))
        self.group = self.group.with_more(torch.arange(where.row, where.stop), torch.tensor(births), None)

    def forget(self, count: int) -> None:
        self.group = self.group.without_oldest(min(count, len(self.group)), 1)
        self.log = self.log.trimmed(int(self.group.rows[0]) if len(self.group) else self.log.end)

    def fork(self) -> Held:
        twin = Held.__new__(Held)
        twin.__dict__.update(self.__dict__)
        return twin

    @property
    def view(self) -> LongTerm:
        return LongTerm(self.layout, self.geometry, self.codec, self.log, (self.group,))


@functools.cache
def numbers(birth: int, *shape: int) -> Tensor:
    """Those of one row of one layer or more."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(birth)) * (1 + birth % 7)


def written(births: list[int], search_groups: int = 1, layers: int = LAYERS) -> Rows:
    """Rows as a write pass gives them, [L or 1, k, ...], whose every number follows from layer and birth."""

    def stacked(*shape: int) -> Tensor:
        return torch.stack([numbers(birth + shape[-1], *shape) for birth in births], 1)

    rows = {"keys": stacked(layers, HEADS, WIDTH), "values": -stacked(layers, HEADS, WIDTH), "search": stacked(layers, SEARCH)}
    return {**rows, "search": rows["search"][:search_groups]}


def rounded(value: Tensor, kept: str, own_dims: int) -> Tensor:
    """What a row becomes when it is stored and read again, alone."""
    if kept == "int8":
        return dequantise(*quantise(value, own_dims), own_dims, torch.float32)
    return value if kept == "model" else value.to(getattr(torch, kept)).float()


def twin(births: list[int], types: tuple[str, str]) -> Rows:
    """Rows [k, ...] of one shared group, rounded one by one."""
    rows = [twin_row(birth, types) for birth in births]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


@functools.cache
def twin_row(birth: int, types: tuple[str, str]) -> Rows:
    """One of them."""
    rows = written([birth])
    own = {name: rounded(rows[name][:, 0], types[0], 2) for name in ("keys", "values")}
    return {**own, "search": rounded(rows["search"][0, 0], types[1], 1)}


def same(memory: LongTerm, births: list[int], types: tuple[str, str], index: Tensor) -> bool:
    """Whether a memory holds the rows of these births, seen one by one, in pieces and as columns."""
    assert memory.births(0).tolist() == births
    if not births:
        return list(memory.search_parts(0)) == []
    wanted = twin(births, types)
    got = memory.gather(0, index, ("keys", "values", "search"))
    parts = torch.cat([part.float() for part in memory.search_parts(0)])
    return (
        torch.equal(parts, wanted["search"])
        and all(torch.equal(memory.column(0, name), value) for name, value in wanted.items())
        and all(torch.equal(value, wanted[name][index]) and value.dtype is torch.float32 for name, value in got.items())
    )


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("seed", range(2))
def test_memories_and_their_forks_equal_lists_of_rounded_rows_under_random_acts(
    storage: DiskStorage | None, types: tuple[str, str], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(0, high, (), generator=generator))

    held: list[tuple[Held, list[int]]] = [(Held(storage, types), [])]
    now = 0
    for _ in range(40):
        place, act = draw(len(held)), draw(8)
        memory, births = held[place]
        if act < 5:
            fresh = list(range(now, now + BLOCK * (1 + draw(6))))
            now += len(fresh)
            memory.append(fresh)
            births = births + fresh
        elif act == 5:
            gone = BLOCK * draw(8)
            memory.forget(gone)
            births = births[gone:]
        elif act == 6 and len(held) < 3:
            held.append((memory.fork(), list(births)))
        elif act == 7 and len(held) > 1:
            del held[place]
            continue
        held[place] = (memory, births)
        for one, alike in held:
            assert same(one.view, alike, types, torch.randint(0, max(1, len(alike)), (9,), generator=generator))
            assert one.view.size_bytes == one.log.size_bytes


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("retrieval", ["shared", "per_layer"])
@pytest.mark.parametrize("layers", [1, LAYERS])
def test_rows_are_what_they_were_rounded_to(types: tuple[str, str], retrieval: str, layers: int) -> None:
    """Short-term memory gets what the log keeps; rounding it again changes nothing. Also where there is one layer."""
    layout = layout_of(retrieval, layers)
    codec = RowCodec(layout, tiny_geometry(retrieval=retrieval, ltm_dtype=types[0], ltm_search_dtype=types[1]))
    rows = written([3, 4, 5], layout.search_groups, layers)
    short = codec.rounded(rows)
    log, _ = RowLog(codec.fields).appended(codec.stored(rows))
    names = tuple(layout.fields)
    kept = codec.of_log(log.gather(torch.arange(3), codec.stored_names(names)), names)
    again = codec.of_log(codec.stored(short), names)
    for name in names:
        kind, dims = (types[1], 1) if name == "search" else (types[0], 2)
        wanted = torch.stack([torch.stack([rounded(row, kind, dims) for row in layer]) for layer in rows[name]])
        assert torch.equal(short[name], wanted) and torch.equal(kept[name], wanted)
        if kind != "int8":
            assert torch.equal(again[name], wanted)
    if retrieval == "per_layer":
        for layer in range(layers):
            group = LongGroup().with_more(torch.arange(3), torch.arange(3), None)
            view = LongTerm(layout, tiny_geometry(retrieval=retrieval), codec, log, (group,) * layers)
            assert all(torch.equal(view.column(layer, name), kept[name][layer]) for name in names)


@pytest.mark.parametrize("setup", ["shared", "per_layer"])
@pytest.mark.parametrize("types", TYPES)
def test_a_token_has_one_value_in_short_term_and_in_long_term_memory(
    tiny_model: TinyModel, setup: str, types: tuple[Any, Any]
) -> None:
    model = tiny_model("llama", setup)
    memory = model.new_memory(memory_format="kv", ltm_dtype=types[0], ltm_search_dtype=types[1])
    seen: dict[tuple[int, int], Tensor] = {}

    def look() -> int:
        """Compare each row's keys of the last layer with those it had before; gives how many are long-term."""
        held = memory.short_term.at_slots(memory.short_term.order, ("keys",))["keys"][-1]
        numbers, group = memory.placement.rows[-1], memory.long_term.groups - 1
        long = memory.long_term.column(group, "keys")
        rows = [*zip(numbers.tolist(), held, strict=True)]
        rows += zip(memory.long_term.rows(group).tolist(), long if setup == "per_layer" else long[:, -1], strict=True)
        for number, value in rows:
            assert torch.equal(seen.setdefault((0, number), value), value)
        return len(long)

    for seed in range(6):
        memory.write(ids(8, seed))
        look()
    assert look() > 16


@pytest.mark.parametrize("types", TYPES)
def test_every_layer_keeps_and_counts_down_its_own_rows(types: tuple[str, str]) -> None:
    geometry = tiny_geometry(
        drop="per_layer", retrieval="per_layer", block_tokens=1, new_tokens=2, stm_tokens=4, ltm_read_tokens=0,
        eviction="countdown", initial_recall_frequency=3, ltm_dtype=types[0], ltm_search_dtype=types[1],
    )  # fmt: skip
    layout = layout_of("per_layer")
    codec = RowCodec(layout, geometry)
    placement, log = Placement.new(geometry, LAYERS, 0), RowLog(codec.fields)
    ranks = torch.tensor([[0, 1], [1, 3]])  # the first layer drops its oldest, the second others
    left: list[list[int]] = [[] for _ in range(LAYERS)]
    for first in range(0, 20, 2):
        log, where = log.appended(codec.stored(written([first, first + 1], LAYERS)))
        full = len(placement) == 4
        for layer, own in enumerate(placement.rows.tolist() if full else []):
            left[layer] += [own[rank] for rank in ranks[layer].tolist()]
        placement = placement.written(geometry, where.row, 2, ranks if full else torch.empty(LAYERS, 0, dtype=torch.int64))
    memory = LongTerm(layout, geometry, codec, log, placement.long)
    for layer in range(LAYERS):
        expected = left[layer][-4:]
        assert memory.rows(layer).tolist() == memory.births(layer).tolist() == expected
        frequencies = memory.frequencies(layer)
        assert frequencies is not None and frequencies.tolist() == [1, 1, 2, 2]
        for name, kept, dims in (("keys", types[0], 2), ("search", types[1], 1)):
            rows = [
                written([number - number % 2, number - number % 2 + 1], LAYERS)[name][layer][number % 2] for number in expected
            ]
            assert torch.equal(memory.column(layer, name), torch.stack([rounded(row, kept, dims) for row in rows]))


@pytest.mark.parametrize("types", [kind for kind in TYPES if kind[0] != "int8"])
def test_hidden_rows_are_rounded_alike(tiny_model: TinyModel, types: tuple[Any, Any], tmp_path: Path) -> None:
    model = tiny_model("llama", "shared")
    memory = model.new_memory(memory_format="hidden", ltm_dtype=types[0], ltm_search_dtype=types[1])
    memory.write(ids(60, 3))
    held = memory.short_term.at_slots(memory.short_term.order, ("hidden",))["hidden"]
    assert torch.equal(held, rounded(held, types[0], 1))
    memory.save(tmp_path / "m")
    assert same_contents(contents(memory), contents(Memory.load(tmp_path / "m", model)))


# -- what an act touches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", TYPES)
def test_forgetting_by_age_touches_no_row_and_keeps_the_other_pieces(storage: DiskStorage | None, types: tuple[str, str]) -> None:
    memory = Held(storage, types)
    for first in range(0, 10 * SEGMENT_ROWS, SEGMENT_ROWS):
        memory.append(list(range(first, first + SEGMENT_ROWS)))
        memory.log = memory.log.flushed()
    before = {id(extent.piece) for extent in memory.log.extents}
    assert work_of(lambda: memory.forget(3 * SEGMENT_ROWS + 5)).written_bytes == 0
    after = {id(extent.piece) for extent in memory.log.extents}
    assert after <= before and len(before) - len(after) == (0 if storage is None else 3)


@pytest.mark.parametrize("types", [("model", "model"), ("int8", "int8")])
@pytest.mark.parametrize("setup", ["shared", "per_layer"])
def test_a_write_at_capacity_touches_as_much_of_a_large_memory_as_of_a_small_one(
    setup: str, types: tuple[Any, Any], tiny_model: TinyModel
) -> None:
    model: MPlusModel = tiny_model("llama", setup)
    counts = list[int]()
    for capacity in (512, 8192):
        memory = model.new_memory(memory_format="kv", ltm_dtype=types[0], ltm_search_dtype=types[1], ltm_capacity=capacity)
        fill_short(memory)
        grow_long(memory, capacity)
        chunk = EncodedChunk(memory.layout.empty(8, torch.device("cpu")), 8)
        for rows in chunk.rows.values():
            rows.normal_(generator=torch.Generator().manual_seed(1))
        for _ in range(2):
            memory.update(chunk)  # columns of numbers may grow here
        counts.append(min(work_of(partial(memory.update, chunk)).written_bytes for _ in range(2)))
        assert len(memory.long_term) == capacity
    assert counts[1] <= 1.02 * counts[0]


def test_search_keys_are_decoded_one_piece_at_a_time(storage: DiskStorage | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_term_module, "PIECE_ROWS", SEGMENT_ROWS)
    memory = Held(storage, ("int8", "int8"))
    for first in range(0, 4 * SEGMENT_ROWS, SEGMENT_ROWS):
        memory.append(list(range(first, first + SEGMENT_ROWS)))
    parts: Iterator[Tensor] = memory.view.search_parts(0)
    found = list[Tensor]()
    for _ in range(4):
        work = work_of(lambda: found.append(next(parts)))
        assert found[-1].shape == (SEGMENT_ROWS, SEARCH)
        assert 0 < work.written_bytes <= 50 * SEGMENT_ROWS * SEARCH  # of four pieces it would be four times as much
    assert next(parts, None) is None
    assert torch.equal(torch.cat(found), twin(list(range(4 * SEGMENT_ROWS)), ("int8", "int8"))["search"])


def test_a_published_rule_of_one_layer_reads_and_stores(tmp_path: Path) -> None:
    """One layer with keys of its own is not a layer that shares its keys with others."""
    model = tiny_model(setup="per_layer", config={"num_hidden_layers": 1})
    assert isinstance(model.geometry, Geometry) and not model.geometry.read.is_shared
    memory = model.new_memory(seed=1)
    memory.write(ids(100, 1))
    logits: Any = model(ids(6, 2)[None], memory=memory).logits
    memory.save(tmp_path / "m")
    assert torch.equal(model(ids(6, 2)[None], memory=Memory.load(tmp_path / "m", model)).logits, logits)
