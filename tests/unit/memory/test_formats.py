"""What was stored once opens for ever, with the same rows, births and sources. Memories of formats 3 and 4 were made by this file as a command:

``python -m tests.unit.memory.test_formats tests/formats`` (only for a new format: what lies there stays).
"""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.errors import MPlusError
from mplus.memory.keys import Keys
from mplus.memory.manifest import read_manifest
from mplus.memory.stores.disk import DiskStorage
from tests import tiny
from tests.conftest import TinyModel
from tests.tiny import contents, ids

FORMATS = Path(__file__).parents[2] / "formats"
MADE: dict[str, tuple[str, dict[str, Any], bool]] = {
    "3-shared": ("shared", {"ltm_capacity": 40}, False),
    "3-per-layer": ("per_layer", {}, False),
    "3-int8-on-disk": ("shared", {"ltm_dtype": "int8"}, True),
}
"""Name to (setup, options, whether rows outgrew RAM)."""
ENCRYPTED = "4-encrypted"
SOURCES = [("notes/a", 35, 0.0), ("", 9, 1.0), ("notes/b", 25, 2.0), ("c", 40, 4.0)]
"""Names, tokens and times of what every one of them read."""
WRITES = (("notes/a", 30), (None, 9), ("notes/b", 25), ("notes/a", 5), ("c", 40))


def tensors_of(memory: Memory) -> dict[str, Tensor]:
    """All that a memory holds as tensors."""
    return {name: value.clone().contiguous() for name, value in contents(memory).items() if isinstance(value, Tensor)}


def opened(name: str, model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Any = None) -> Memory:
    """A memory of before. The model is made of random numbers of this torch, so its fingerprint is not what is tested."""
    place = FORMATS / name / "memory" if name in MADE else FORMATS / name
    if not (tmp_path / "m").exists():
        copytree(place, tmp_path / "m")
    wanted = read_manifest(tmp_path / "m")["model"]["fingerprint"]
    monkeypatch.setattr(model.writer, "_fingerprint", wanted)
    return Memory.load(tmp_path / "m", model, store=store)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("store", [None, "ram", "rows", "m"])
def test_a_memory_of_format_3_holds_what_it_held(
    tiny_model: TinyModel, tmp_path: Path, name: str, store: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, _, _ = MADE[name]
    model, where = tiny_model("llama", setup), tmp_path / store if store in ("rows", "m") else store
    memory = opened(name, model, tmp_path, monkeypatch, where)
    expected, found = load_file(FORMATS / name / "expected.safetensors"), tensors_of(memory)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert [(one.name, one.tokens, one.first_at) for one in memory.sources()] == SOURCES
    assert memory.ids("notes/a") == [*ids(30, 0).tolist(), *ids(5, 3).tolist()]
    report = memory.forget("notes/b")
    assert report.exact and report.tokens == 25 and memory.now == 84
    memory.write(ids(30, 9), source="c")
    assert model.generate(ids(4)[None], memory=memory, max_new_tokens=2, do_sample=False).shape == (1, 6)
    memory.save(tmp_path / "again")
    again = tensors_of(Memory.load(tmp_path / "again", model))
    assert all(torch.equal(again[key], value) for key, value in tensors_of(memory).items())


def test_an_encrypted_memory_opens_with_its_keys(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason="encryption needs: pip install 'mplus-llm[encrypt]'")
    for part in ("keys", "memory"):
        copytree(FORMATS / ENCRYPTED / part, tmp_path / part)
    for path in (tmp_path / "keys", *(tmp_path / "keys").rglob("*")):  # git keeps no such modes
        path.chmod(0o700 if path.is_dir() else 0o600)
    model = tiny_model("llama", "shared")
    monkeypatch.setattr(model.writer, "_fingerprint", read_manifest(tmp_path / "memory")["model"]["fingerprint"])
    with pytest.raises(MPlusError, match="key"):
        Memory.load(tmp_path / "memory", model, keys=Keys.make(tmp_path / "others"))
    memory = Memory.load(tmp_path / "memory", model, keys=Keys(tmp_path / "keys"))
    expected, found = load_file(FORMATS / ENCRYPTED / "expected.safetensors"), tensors_of(memory)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], value) for key, value in expected.items())
    assert [(one.name, one.tokens, one.first_at) for one in memory.sources()] == SOURCES
    assert memory.ids("notes/a") == [*ids(30, 0).tolist(), *ids(5, 3).tolist()]
    memory.forget("notes/b")
    memory.save(tmp_path / "memory")
    again = Memory.load(tmp_path / "memory", model, keys=Keys(tmp_path / "keys"))
    assert [one.name for one in again.sources()] == ["notes/a", "", "c"]


@pytest.mark.parametrize(("name", "setup"), [("1-plain", "shared"), ("2-segments", "shared"), ("1-per-layer", "output")])
@pytest.mark.parametrize("store", [None, "ram", "rows"])
def test_a_memory_of_an_older_format_holds_the_rows_and_births_of_its_files(
    tiny_model: TinyModel, tmp_path: Path, name: str, setup: str, store: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened(name, tiny_model("llama", setup), tmp_path, monkeypatch, tmp_path / "rows" if store == "rows" else store)
    manifest = read_manifest(FORMATS / name)
    stored = load_file(FORMATS / name / manifest["data"]["file"])
    assert torch.equal(memory.placement.births, stored["stm.births"])
    held = memory.short_term.at_slots(memory.short_term.order)
    for field in memory.layout.fields:
        assert torch.equal(held[field], stored[f"stm.{field}"]), field
    assert memory.tail is None or torch.equal(memory.tail, stored["tail"])
    for group in range(memory.long_term.groups):
        columns = long_columns(FORMATS / name, manifest, stored, group, ("birth", *memory.layout.fields))
        assert torch.equal(memory.long_term.births(group), columns["birth"])
        for field in memory.layout.fields:
            assert torch.equal(memory.long_term.column(group, field), columns[field]), field
    assert memory.ledger.tokens_by_source() == manifest["sources"] and memory.now == manifest["now"]
    assert torch.equal(memory.placement.generator, stored["generator"])


def long_columns(
    place: Path, manifest: dict[str, Any], stored: dict[str, Tensor], group: int, names: tuple[str, ...]
) -> dict[str, Tensor]:
    """Columns of long-term memory as formats 1 and 2 kept them: segments without their forgotten rows, then loose pieces."""
    out: dict[str, list[Tensor]] = {name: [] for name in names}
    entry = manifest.get("ltm_segments", [{"segments": [], "start": 0}] * (group + 1))[group]
    for number, segment in enumerate(entry["segments"]):
        rows = load_file(place / segment["file"])
        for name in names:
            out[name].append(rows[name][entry["start"] if number == 0 else 0 :])
    piece = 0
    while f"ltm.{group}.birth.{piece}" in stored:
        for name in names:
            out[name].append(stored[f"ltm.{group}.{name}.{piece}"])
        piece += 1
    return {name: torch.cat(parts) for name, parts in out.items()}


def make(directory: Path) -> None:
    """Store a memory of every kind that is not there yet, and what it holds."""
    for name, (setup, options, on_disk) in {**MADE, ENCRYPTED: ("shared", {"ltm_capacity": 40}, False)}.items():
        place = directory / name
        if place.exists():
            continue
        place.mkdir(parents=True)
        model = tiny.tiny_model("llama", setup)
        store: Any = DiskStorage(directory / "rows", segment_rows=32) if on_disk else "ram"
        memory = model.new_memory(seed=3, store=store, **options)
        for number, (source, size) in enumerate(WRITES):
            memory.write(ids(size, number), source=source, at=float(number))
        if name == ENCRYPTED:
            memory.keys = Keys.make(place / "keys")
        memory.save(place / "memory")
        save_file(tensors_of(memory), place / "expected.safetensors")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
