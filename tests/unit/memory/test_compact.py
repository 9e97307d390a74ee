"""Laws of compaction: the memory stays the same bit for bit, and of a forgotten source no byte is left under its directory."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.errors import SnapshotError, StoreError
from mplus.memory.compact import compact
from mplus.memory.verify import verify
from tests.conftest import TinyModel
from tests.tiny import contents, ids, same_contents

FORMATS = Path(__file__).parents[2] / "formats"


@pytest.fixture
def memory(model: MPlusModel) -> Memory:
    """Three sources, written in turns."""
    memory = model.new_memory(seed=3)
    for number in range(6):
        memory.write(ids(24, number), source="abc"[number % 3])
    return memory


def forgotten(source: str, memory: Memory, model: MPlusModel, place: Path) -> None:
    """Store a memory, then forget a source in what was stored, whose rows lie in segments, and in the memory."""
    memory.save(place)
    opened = Memory.load(place, model)
    opened.forget(source)
    opened.save(place)
    memory.forget(source)


def rows_of(memory: Memory, source: str) -> list[bytes]:
    """The bytes of each field of each row of a source."""
    log = memory.state.log
    chunks = [chunk for chunk in memory.ledger.chunks if chunk.source == source]
    numbers = torch.cat([torch.arange(chunk.first, chunk.stop) for chunk in chunks])
    rows = log.gather(numbers[log.holds(numbers)], tuple(log.fields))
    return [row.contiguous().view(torch.uint8).numpy().tobytes() for field in rows.values() for row in field]


def found_in(directory: Path, secrets: list[bytes]) -> list[str]:
    """Files in which one of them is."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted({path.name for path in files for content in [path.read_bytes()] for secret in secrets if secret in content})


def secrets_of(memory: Memory, source: str) -> dict[str, list[bytes]]:
    """What of a source must not be found, as it is stored: its name, four token ids in a row, addresses of its chunks, its rows."""
    chunks = [chunk for chunk in memory.ledger.chunks if chunk.source == source]
    return {
        "name": [f'"{source}"'.encode()],
        "ids": [array("i", chunk.ids[at : at + 4]).tobytes() for chunk in chunks if chunk.ids for at in (0, 4)],
        "keys": [bytes.fromhex(chunk.key) for chunk in chunks],
        "rows": [row for row in rows_of(memory, source) if len(set(row)) > 8],
    }


@pytest.mark.parametrize("setup", ["shared", "per_layer"])
def test_after_forget_and_compact_no_byte_of_the_source_is_left(tiny_model: TinyModel, tmp_path: Path, setup: str) -> None:
    model, place = tiny_model("llama", setup, write_context="source"), tmp_path / "m"
    memory = model.new_memory(seed=3)
    for number in range(6):
        memory.write(ids(24, number), source=f"source-{number % 3}")
    memory.save(place)
    gone, stays = secrets_of(memory, "source-1"), secrets_of(memory, "source-2")
    assert all(found_in(place, [one]) for secrets in gone.values() for one in secrets)  # else the search could not fail
    opened = Memory.load(place, model)
    opened.forget("source-1")
    opened.save(place)
    assert [kind for kind, secrets in gone.items() if found_in(place, secrets)] == ["rows"]
    report = compact(place)
    assert report.rows_removed == 48 and report.rewritten and report.bytes_after < report.bytes_before
    others = [array("q", array("i", run)).tobytes() for run in gone["ids"]] + [key.hex().encode() for key in gone["keys"]]
    assert not found_in(place, [*others, *(one for secrets in gone.values() for one in secrets)])
    assert all(found_in(place, [one]) for secrets in stays.values() for one in secrets)


def test_a_compacted_memory_is_the_same_and_goes_on_identically(memory: Memory, model: MPlusModel, tmp_path: Path) -> None:
    forgotten("b", memory, model, tmp_path / "m")
    assert compact(tmp_path / "m").rewritten
    loaded = Memory.load(tmp_path / "m", model, check_rows=True)
    assert same_contents(contents(loaded), contents(memory))
    assert not verify(tmp_path / "m").findings
    for one in (loaded, memory):
        one.write(ids(24, 9), source="d")
    assert same_contents(contents(loaded), contents(memory))
    loaded.save(tmp_path / "m")
    assert same_contents(contents(Memory.load(tmp_path / "m", model)), contents(memory))


def test_rows_that_two_sources_share_are_kept_once(model: MPlusModel, tmp_path: Path) -> None:
    memory, place = model.new_memory(seed=3, store=tmp_path / "m"), tmp_path / "m"
    memory.write(ids(24, 2), source="d")
    memory.write(ids(24, 1), source="a")
    memory.save(place)
    opened = Memory.load(place, model)
    opened.write(ids(24, 2), source="e")
    opened.write(ids(24, 1), source="b")
    opened.forget("d")
    opened.forget("e")
    del memory
    opened.save(place)
    assert compact(place).rows_removed == 24
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    assert [entry["rows"] for entry in manifest["segments"]] == [24]
    assert same_contents(contents(Memory.load(place, model, check_rows=True)), contents(opened))
    assert not verify(place).findings


def test_what_needs_nothing_is_left_alone(memory: Memory, tmp_path: Path) -> None:
    memory.save(tmp_path / "m")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "m").iterdir()}
    report = compact(tmp_path / "m")
    assert (report.rewritten, report.rows_removed, report.bytes_before) == (0, 0, report.bytes_after)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "m").iterdir()} == before


def test_a_memory_that_was_open_goes_on_and_is_told_to_load_again(memory: Memory, model: MPlusModel, tmp_path: Path) -> None:
    forgotten("b", memory, model, tmp_path / "m")
    reader = Memory.load(tmp_path / "m", model)
    compact(tmp_path / "m")
    assert same_contents(contents(reader), contents(memory))
    with pytest.raises(SnapshotError, match="load it and write again"):
        reader.save(tmp_path / "m")


def test_what_cannot_be_compacted_is_refused_and_unchanged(memory: Memory, model: MPlusModel, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="no memory at"):
        compact(tmp_path / "none")
    with pytest.raises(SnapshotError, match="has the older format 2; load and save it once"):
        compact(FORMATS / "2-segments")
    memory.save(tmp_path / "m")
    owner = Memory.load(tmp_path / "m", model, store=tmp_path / "m")
    with pytest.raises(StoreError, match="in use"):
        compact(tmp_path / "m")
    del owner
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text(encoding="utf-8"))
    segment = tmp_path / "m" / manifest["segments"][0]["file"]
    segment.rename(tmp_path / "elsewhere")
    with pytest.raises(SnapshotError, match="is missing; restore it from a backup"):
        compact(tmp_path / "m")
