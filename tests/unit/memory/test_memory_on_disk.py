"""Laws of a memory whose rows lie on disk: the same as one in RAM, opened without reading them, nothing lost."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from mplus import Memory, MPlusModel
from mplus.errors import SnapshotError, StoreError
from mplus.memory import snapshot
from mplus.memory.stores import segments
from mplus.memory.stores.disk import DiskStorage
from mplus.memory.stores.segments import Segment
from tests.conftest import TinyModel
from tests.published import write_published
from tests.tiny import SETUPS, contents, filled, ids, same_contents
from tests.unit.memory.failing import disk_full

pytestmark = pytest.mark.slow

SEGMENT_ROWS = 12
TOKENS = 94  # all different, so that no two rows of a layer score the same and how rows are cut decides nothing


@pytest.fixture(params=[("model", "model"), ("int8", "int8")], ids=["model", "int8"])
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> MPlusModel:
    """Every law holds for rows of the model's own numbers and for int8 rows with their scales."""
    rows, keys = request.param
    return tiny_model("llama", "shared", ltm_dtype=rows, ltm_search_dtype=keys)


def logical(memory: Memory) -> dict[str, Any]:
    """What a memory holds; which slot a token lies in is nobody's business on disk."""
    return {name: value for name, value in contents(memory).items() if name != "order"}


def on_disk(model: MPlusModel, path: Path, tokens: int = TOKENS, **options: Any) -> Memory:
    """A memory whose rows fill several segments of `path`."""
    return filled(model, tokens, store=DiskStorage(path, segment_rows=SEGMENT_ROWS), **options)


def segment_files(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.glob("segment-*"))


def held_files(*memories: Memory) -> list[str]:
    pieces = [extent.piece for memory in memories for extent in memory.state.log.extents]
    return sorted({piece.name for piece in pieces if isinstance(piece, Segment)})


def files_named(path: Path) -> list[str]:
    """Segments that the manifest of a stored memory names."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    return sorted(segment["file"] for segment in manifest["segments"])


# -- the same as in RAM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_memory_on_disk_reads_and_writes_as_one_in_ram(
    tiny_model: TinyModel, tmp_path: Path, setup: str, memory_format: Any
) -> None:
    model = tiny_model("llama", setup)
    disk, ram = on_disk(model, tmp_path / "d", memory_format=memory_format), filled(model, TOKENS, memory_format=memory_format)
    assert len(segment_files(tmp_path / "d")) >= 3
    assert same_contents(contents(disk), contents(ram))
    assert disk.stats() == ram.stats()
    prompt = ids(5, 8)[None]
    assert torch.equal(model(prompt, memory=disk).logits, model(prompt, memory=ram).logits)


def test_memory_of_a_published_model_starts_and_ages_on_disk_as_in_ram(tmp_path: Path) -> None:
    model = MPlusModel.from_pretrained(write_published(tmp_path / "model"), dtype="float32", device="cpu")
    disk = model.new_memory(store=DiskStorage(tmp_path / "d", segment_rows=4))
    ram = model.new_memory()
    for step in range(12):
        for memory in (disk, ram):
            memory.write(torch.arange(20) + step)
        assert same_contents(contents(disk), contents(ram))
    assert held_files(disk)
    disk.save(tmp_path / "m")
    assert same_contents(logical(ram), logical(Memory.load(tmp_path / "m", model)))


def test_capacity_removes_the_files_of_what_is_forgotten(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d", 400, ltm_capacity=40)
    assert same_contents(contents(memory), contents(filled(model, 400, ltm_capacity=40)))
    assert segment_files(tmp_path / "d") == held_files(memory)
    assert len(held_files(memory)) <= 8  # forty long-term and sixteen short-term tokens, twelve or more in each


def test_forks_go_their_own_ways(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d")
    before = contents(memory)
    twin = memory.fork()
    assert same_contents(before, contents(twin))
    twin.write(ids(80, 5))
    assert same_contents(before, contents(memory))
    changed = contents(twin)
    memory.clear()
    assert same_contents(changed, contents(twin))
    assert segment_files(tmp_path / "d") == held_files(twin)


def test_cleared_memory_is_as_new_and_goes_on_in_its_directory(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d")
    memory.clear()
    assert segment_files(tmp_path / "d") == []
    assert same_contents(contents(memory), contents(model.new_memory(seed=3)))
    memory.write(ids(TOKENS, 1))
    assert segment_files(tmp_path / "d") == held_files(memory) != []


# -- stored and opened ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("to", ["in_place", "ram", "other_directory", "own_directory"])
def test_loaded_memory_is_the_same_and_continues_identically(tiny_model: TinyModel, tmp_path: Path, setup: str, to: str) -> None:
    model = tiny_model("llama", setup)
    memory = on_disk(model, tmp_path / "d", ltm_capacity=36)
    oldest = memory.state.log.extents[0]
    assert isinstance(oldest.piece, Segment) and oldest.first > 0, "some rows of a segment are forgotten, others not"
    memory.write(ids(1, 6), source="note")  # waits where chunks see the memory
    before = logical(memory)
    memory.save(tmp_path / "m")
    assert same_contents(before, logical(memory))
    store: dict[str, Any] = {
        "in_place": None,
        "ram": "ram",
        "other_directory": DiskStorage(tmp_path / "e", segment_rows=SEGMENT_ROWS),
        "own_directory": tmp_path / "m",
    }
    loaded = Memory.load(tmp_path / "m", model, store=store[to])
    assert same_contents(before, logical(loaded))
    assert loaded.stats() == memory.stats()
    prompt = ids(5, 8)[None]
    assert torch.equal(model(prompt, memory=memory).logits, model(prompt, memory=loaded).logits)
    for one in (memory, loaded):
        one.write(ids(60, 7))
    assert same_contents(logical(memory), logical(loaded))
    loaded.save(tmp_path / "again")
    del memory, store
    gc.collect()
    assert same_contents(logical(loaded), logical(Memory.load(tmp_path / "again", model, check_rows=True)))


def test_memory_in_ram_goes_on_on_disk(model: MPlusModel, tmp_path: Path) -> None:
    memory = filled(model, TOKENS)
    memory.save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", model, store=DiskStorage(tmp_path / "d", segment_rows=SEGMENT_ROWS))
    assert same_contents(logical(memory), logical(loaded))
    assert held_files(loaded) == segment_files(tmp_path / "d") != []


def test_opening_maps_every_segment_and_reads_none(model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(path: Path, framework: str) -> Any:
        opened.append(path)
        return safe_open(path, framework=framework)

    monkeypatch.setattr(segments, "safe_open", counted)
    for tokens in (60, 390):
        memory = on_disk(model, tmp_path / f"d{tokens}", tokens)
        memory.save(tmp_path / f"m{tokens}")
        count = len(files_named(tmp_path / f"m{tokens}"))
        opened.clear()
        with monkeypatch.context() as patch:
            patch.setattr(segments, "sha256", disk_full)  # would read all rows
            patch.setattr(segments, "_data_starts", disk_full)
            loaded = Memory.load(tmp_path / f"m{tokens}", model)
        assert {path.name for path in opened} == set(files_named(tmp_path / f"m{tokens}")), (
            "what a later save replaces stays readable"
        )
        assert held_files(loaded) == files_named(tmp_path / f"m{tokens}")
    assert count > 20


def test_second_save_links_what_is_new_and_drops_what_is_forgotten(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d", ltm_capacity=60)
    memory.save(tmp_path / "m")
    first = segment_files(tmp_path / "m")
    linked = [name for name in held_files(memory) if name in first]
    assert linked and all((tmp_path / "m" / name).samefile(tmp_path / "d" / name) for name in linked)
    memory.write(ids(60, 7))
    memory.save(tmp_path / "m")
    second = segment_files(tmp_path / "m")
    assert second == files_named(tmp_path / "m")
    assert set(first) & set(second) and set(first) - set(second) and set(second) - set(first)
    assert same_contents(logical(memory), logical(Memory.load(tmp_path / "m", model)))


def test_snapshot_outlives_the_store_it_came_from(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d")
    before = logical(memory)
    memory.save(tmp_path / "m")
    del memory
    gc.collect()
    assert segment_files(tmp_path / "d") == []
    assert same_contents(before, logical(Memory.load(tmp_path / "m", model, check_rows=True)))


def test_memory_saved_in_its_own_directory_is_whole_after_it_went_on(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d", ltm_capacity=100)
    memory.save(tmp_path / "d")
    before, saved = logical(memory), segment_files(tmp_path / "d")
    memory.write(ids(90, 7))
    assert set(saved) <= set(segment_files(tmp_path / "d"))
    assert set(saved) - set(held_files(memory))
    assert same_contents(before, logical(Memory.load(tmp_path / "d", model, check_rows=True)))
    memory.save(tmp_path / "d")
    assert segment_files(tmp_path / "d") == sorted({*held_files(memory), *files_named(tmp_path / "d")})
    after = logical(memory)
    del memory
    gc.collect()
    again = Memory.load(tmp_path / "d", model, store=tmp_path / "d")
    assert same_contents(after, logical(again))
    again.clear()
    assert same_contents(after, logical(Memory.load(tmp_path / "d", model, check_rows=True)))


def test_countdown_values_are_stored(tmp_path: Path) -> None:
    model = MPlusModel.from_pretrained(write_published(tmp_path / "model"), dtype="float32", device="cpu")
    memory = model.new_memory(store=DiskStorage(tmp_path / "d", segment_rows=4))
    for step in range(6):
        memory.write(torch.arange(20) + step)
    groups = memory.placement.long
    counted = tuple(replace(group, frequency=torch.arange(len(group)).float()) for group in groups)
    placement = replace(memory.placement, long=counted)
    log, long_term = memory.state.log, memory.long_term
    memory.become(replace(memory.state, placement=placement, long_term=long_term.followed_by(log, counted)))
    memory.save(tmp_path / "m")
    for word in (None, "ram", tmp_path / "e"):
        loaded = Memory.load(tmp_path / "m", model, store=word)
        frequencies = loaded.long_term.frequencies(0)
        assert frequencies is not None and frequencies.tolist() == list(range(loaded.long_term.tokens(0)))
        assert same_contents(logical(memory), logical(loaded))


# -- refused, damaged, full ------------------------------------------------------------------------------------------


def test_directory_of_a_living_memory_is_refused(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d")
    before = contents(memory)
    memory.save(tmp_path / "d")
    for act in (
        lambda: model.new_memory(store=tmp_path / "other" / ".." / "d"),
        lambda: Memory.load(tmp_path / "d", model, store=tmp_path / "d"),
        lambda: filled(model).save(tmp_path / "d"),
    ):
        with pytest.raises(StoreError, match="in use|holds a saved memory"):
            act()
    assert same_contents(before, contents(memory))
    assert same_contents(logical(memory), logical(Memory.load(tmp_path / "d", model, check_rows=True)))


def test_full_disk_while_writing_keeps_the_text_and_the_memory(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = on_disk(model, tmp_path / "d", write_context="memory")
    ram = filled(model, TOKENS, write_context="memory")
    text = ids(8, 5)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "save_file", disk_full)
        with pytest.raises(StoreError, match="nothing is lost, make room there and write again"):
            for _ in range(5):
                memory.write(text, source="book")
        written = (memory.tokens_read - ram.tokens_read) // 8
        assert memory.pending_tokens == 8 and written < 5
        encoded = model.encode(text, memory)
        before = contents(memory)
        with pytest.raises(StoreError, match="No space left"):
            memory.update(encoded)
        assert same_contents(before, contents(memory))
    for _ in range(written):
        ram.write(text, source="book")
    more = ids(8, 6)
    for one in (memory, ram):
        one.write(more, source="book") if one is memory else one.write(torch.cat([text, more]), source="book")
    assert same_contents(contents(memory), contents(ram))


def test_full_disk_in_the_middle_of_a_replacement_leaves_the_old_text(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = on_disk(model, tmp_path / "d", write_context="source")
    memory.write(ids(60, 40), source="a", at=1.0)
    before = contents(memory)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "save_file", disk_full)
        with pytest.raises(StoreError, match="No space left"):
            memory.replace("a", ids(90, 5))
    assert same_contents(before, contents(memory)) and memory.ids("a") == ids(60, 40).tolist()
    memory.replace("a", ids(90, 5))
    assert memory.ids("a") == ids(90, 5).tolist()


@pytest.mark.parametrize("step", ["save_file", "flush"])
def test_failing_save_leaves_the_previous_state_and_no_new_link(
    model: MPlusModel, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = on_disk(model, tmp_path / "d")
    memory.save(tmp_path / "m")
    before, files = logical(memory), sorted((tmp_path / "m").iterdir())
    memory.write(ids(60, 7))
    with monkeypatch.context() as patch:
        patch.setattr(snapshot, step, disk_full)
        with pytest.raises(SnapshotError, match="previous state is unchanged"):
            memory.save(tmp_path / "m")
    assert sorted((tmp_path / "m").iterdir()) == files
    assert same_contents(before, logical(Memory.load(tmp_path / "m", model)))


def test_damaged_segments_are_named(model: MPlusModel, tmp_path: Path) -> None:
    memory = on_disk(model, tmp_path / "d")
    memory.save(tmp_path / "m")
    victim = tmp_path / "m" / segment_files(tmp_path / "m")[2]
    content = victim.read_bytes()
    for spoilt in (content[:-1], None, bytes([*content[:-1], content[-1] ^ 1])):
        victim.unlink(missing_ok=True)
        if spoilt is not None:
            victim.write_bytes(spoilt)
        with pytest.raises(StoreError, match=victim.name):
            Memory.load(tmp_path / "m", model, check_rows=True)
        if spoilt is None or len(spoilt) != len(content):
            with pytest.raises(StoreError, match=victim.name):
                Memory.load(tmp_path / "m", model)


@pytest.mark.parametrize(
    "change",
    [
        lambda segments: segments.clear(),
        lambda segments: segments.pop(),
        lambda segments: segments.reverse(),
        lambda segments: segments[0].update(file="../outside.safetensors"),
        lambda segments: segments[0].update(rows=3),
        lambda segments: segments[0].pop("bytes"),
        lambda segments: segments.extend(segments * 40),
    ],
)
def test_manifest_with_senseless_segments_is_refused(
    model: MPlusModel, tmp_path: Path, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    on_disk(model, tmp_path / "d").save(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    assert manifest["format"] == 3
    del manifest["checksum"]
    change(manifest["segments"])
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SnapshotError, match=r"damaged|counts|expected"):
        Memory.load(tmp_path / "m", model)


@pytest.mark.parametrize("claimed", ["model", "int8"])
def test_rows_of_another_number_type_than_the_manifest_says_are_refused(
    tiny_model: TinyModel, tmp_path: Path, claimed: str
) -> None:
    """Levels without their scales would be read as numbers."""
    model = tiny_model("llama", "shared")
    held = "int8" if claimed == "model" else "model"
    filled(model, ltm_dtype=held).save(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    manifest["geometry"]["ltm_dtype"] = claimed
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SnapshotError, match=r"holds keys as|cannot be read"):
        Memory.load(tmp_path / "m", model)
