"""Laws of long-term memory over every place and number type of its rows: a list of rows, each rounded alone, once.

Legend: L layers, H kv heads, E head width, F search key width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mplus.memory.stores.protocol import Storage
from mplus.memory.stores.ram import RamStorage, RamStore
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mplus.memory.long_term import LongTerm
from mplus.memory.row_codec import dequantise, quantise
from mplus.memory.rows import RowLayout, Rows
from mplus.memory.stores.disk import DiskStorage, DiskStore
from tests.tiny import tiny_geometry

LAYERS, HEADS, WIDTH, SEARCH = 2, 2, 3, 5
BLOCK = 4  # of tiny_geometry
SEGMENT_ROWS = 24
STORAGES: dict[str, Callable[[Path], Storage]] = {
    "ram": lambda path: RamStorage(),
    "disk": lambda path: DiskStorage(path, segment_rows=SEGMENT_ROWS),
}
TYPES = [("model", "model"), ("bfloat16", "bfloat16"), ("float16", "int8"), ("int8", "model"), ("int8", "int8")]


@pytest.fixture(params=sorted(STORAGES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Each place rows can live in."""
    return STORAGES[request.param](tmp_path / "store")


def longterm(storage: Storage, types: tuple[str, str], retrieval: str = "shared", **changed: Any) -> LongTerm:
    layout = RowLayout(
        format="kv",
        layers=LAYERS,
        fields={"keys": (HEADS, WIDTH), "values": (HEADS, WIDTH), "search": (SEARCH,)},
        search_groups=1 if retrieval == "shared" else LAYERS,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    geometry = tiny_geometry(retrieval=retrieval, ltm_dtype=types[0], ltm_search_dtype=types[1], **changed)
    return LongTerm(layout, geometry, storage)


def written(births: list[int], search_groups: int = 1) -> tuple[Rows, Tensor]:
    """Rows as a write drops them, [L or 1, k, ...], whose every number follows from layer and birth; and their births."""

    def numbers(birth: int, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(birth)) * (1 + birth % 7)

    def stacked(*shape: int) -> Tensor:
        return torch.stack([numbers(birth + shape[-1], *shape) for birth in births], 1) if births else torch.empty(shape[0], 0, 1)

    rows = {"keys": stacked(LAYERS, HEADS, WIDTH), "values": -stacked(LAYERS, HEADS, WIDTH), "search": stacked(LAYERS, SEARCH)}
    return {**rows, "search": rows["search"][:search_groups]}, torch.tensor([births])


def rounded(value: Tensor, kept: str, own_dims: int) -> Tensor:
    """What a row becomes when it is stored and read again, alone."""
    if kept == "int8":
        return dequantise(*quantise(value, own_dims), own_dims, torch.float32)
    return value if kept == "model" else value.to(getattr(torch, kept)).float()


def twin(births: list[int], types: tuple[str, str]) -> Rows:
    """Rows [k, ...] of one shared store, rounded one by one."""
    rows, _ = written(births)
    own = {name: value.transpose(0, 1) for name, value in rows.items() if name != "search"}
    out = {name: torch.stack([rounded(row, types[0], 2) for row in value]) for name, value in own.items()}
    return {**out, "search": torch.stack([rounded(row, types[1], 1) for row in rows["search"][0]])}


def same(memory: LongTerm, births: list[int], types: tuple[str, str], index: Tensor) -> bool:
    """Whether a memory holds the rows of these births, seen one by one, in pieces and as columns."""
    assert memory.stores[0].column("birth").tolist() == births
    if not births:
        return list(memory.search_parts(0)) == []
    wanted = twin(births, types)
    got = memory.gather(0, index, ("keys", "values", "search", "birth"))
    assert got.pop("birth").tolist() == [births[at] for at in index.tolist()]
    parts = torch.cat([part.float() for part in memory.search_parts(0)])
    return (
        torch.equal(parts, wanted["search"])
        and all(torch.equal(memory.column(0, name), value) for name, value in wanted.items())
        and all(torch.equal(value, wanted[name][index]) and value.dtype is torch.float32 for name, value in got.items())
    )


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("seed", range(2))
def test_memories_and_their_forks_equal_lists_of_rounded_rows_under_random_acts(
    storage: Storage, types: tuple[str, str], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(0, high, (), generator=generator))

    capacity = 60
    held: list[tuple[LongTerm, list[int]]] = [(longterm(storage, types, ltm_capacity=capacity), [])]
    now = 0
    for _ in range(40):
        place, act = draw(len(held)), draw(8)
        memory, births = held[place]
        if act < 5:
            fresh = list(range(now, now + BLOCK * (1 + draw(6))))
            now += len(fresh)
            memory.reserve()
            memory.append(*written(fresh))
            births = births + fresh
            births = births[-(-max(0, len(births) - capacity) // BLOCK) * BLOCK :]
        elif act == 5:
            gone = BLOCK * draw(4)
            memory.stores[0].evict_oldest(gone)
            births = births[gone:]
        elif act == 6 and len(held) < 3:
            held.append((memory.fork(), list(births)))
        elif act == 7 and len(held) > 1:
            memory.close()
            del held[place]
            continue
        held[place] = (memory, births)
        for one, alike in held:
            assert same(one, alike, types, torch.randint(0, max(1, len(alike)), (9,), generator=generator))
            assert one.size_bytes == one.stores[0].size_bytes


@pytest.mark.parametrize("types", TYPES)
def test_restored_rows_are_those_that_were_taken(storage: Storage, types: tuple[str, str]) -> None:
    births = list(range(8))
    rows, _ = written(births)
    memory = longterm(storage, types)
    memory.restore(
        0, {name: value[0] if name == "search" else value.transpose(0, 1) for name, value in rows.items()}, torch.arange(8)
    )
    assert same(memory, births, types, torch.tensor([7, 0, 3]))


@pytest.mark.parametrize("types", TYPES)
def test_every_layer_keeps_and_counts_down_its_own_rows(storage: Storage, types: tuple[str, str]) -> None:
    rules = {"eviction": "countdown", "initial_recall_frequency": 3, "ltm_read_tokens": 0}
    memory = longterm(storage, types, "per_layer", drop="per_layer", **rules)
    for first in range(0, 20, 2):
        rows, births = written([first, first + 1], LAYERS)
        memory.append(rows, torch.cat([births, births + 100]))
    expected = [16, 17, 18, 19]
    for layer in range(LAYERS):
        assert memory.stores[layer].column("birth").tolist() == [birth + 100 * layer for birth in expected]
        assert memory.column(layer, "frequency").tolist() == [1, 1, 2, 2]
        rows, _ = written(expected, LAYERS)
        for name, kept, dims in (("keys", types[0], 2), ("search", types[1], 1)):
            wanted = torch.stack([rounded(row, kept, dims) for row in rows[name][layer]])
            assert torch.equal(memory.column(layer, name), wanted)


# -- what an act touches ---------------------------------------------------------------------------------------------


class Touched(TorchDispatchMode):
    """Counts the numbers that tensor operations give while it is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        self.numbers += sum(
            each.numel() for each in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(each, Tensor)
        )
        return out


def pieces_of(memory: LongTerm) -> list[Any]:
    """The slabs or segments of a memory with one store, the objects themselves."""
    store = memory.stores[0]
    if isinstance(store, DiskStore):
        return [*store.segments, *store.tail._slabs]
    assert isinstance(store, RamStore)
    return list(store._slabs)


@pytest.mark.parametrize("types", TYPES)
def test_evicting_touches_no_row_and_keeps_the_other_pieces(
    storage: Storage, types: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mplus.memory.stores.ram.FIRST_SLAB_ROWS", SEGMENT_ROWS)
    monkeypatch.setattr("mplus.memory.stores.ram.SLAB_ROWS", SEGMENT_ROWS)
    memory = longterm(storage, types, ltm_capacity=10_000)
    for first in range(0, 10 * SEGMENT_ROWS, SEGMENT_ROWS):
        memory.append(*written(list(range(first, first + SEGMENT_ROWS))))
    memory.reserve()
    before = pieces_of(memory)
    with Touched() as touched:
        memory.stores[0].evict_oldest(3 * SEGMENT_ROWS + 5)
    assert touched.operations == 0
    after = pieces_of(memory)
    assert len(before) - len(after) == 3
    assert all(one is other for one, other in zip(before[3:], after, strict=True))


@pytest.mark.parametrize("types", TYPES)
def test_a_write_at_capacity_touches_as_much_of_a_large_memory_as_of_a_small_one(types: tuple[str, str]) -> None:
    counts = set[int]()
    for capacity in (512, 4096):
        memory = longterm(RamStorage(), types, ltm_capacity=capacity)
        for first in range(0, capacity, 256):
            memory.append(*written(list(range(first, first + 256))))
        assert len(memory) == capacity
        fresh = written(list(range(capacity, capacity + BLOCK)))
        memory.append(*fresh)  # a new slab may be opened here
        with Touched() as touched:
            memory.append(*fresh)
        assert len(memory) == capacity
        counts.add(touched.numbers)
    assert len(counts) == 1 and max(counts) < 100 * BLOCK * LAYERS * HEADS * WIDTH


def test_search_keys_are_decoded_one_piece_at_a_time(storage: Storage) -> None:
    memory = longterm(storage, ("int8", "int8"), ltm_capacity=10_000)
    for first in range(0, 4 * SEGMENT_ROWS, SEGMENT_ROWS):
        memory.append(*written(list(range(first, first + SEGMENT_ROWS))))
    largest = max(part.shape[0] for part in memory.stores[0].parts("search"))
    parts: Iterator[Tensor] = memory.search_parts(0)
    for part in memory.stores[0].parts("search"):
        with Touched() as touched:
            assert next(parts).shape == part.shape
        assert 0 < touched.numbers <= 8 * largest * SEARCH
    assert next(parts, None) is None
