"""Laws of stored memories: whole or not at all, the same afterwards, never another model's."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mplus import Memory, MPlusModel
from mplus.errors import InputError, SnapshotError, WrongModelError
from mplus.memory import snapshot
from mplus.runtime.atomic import sha256
from tests.conftest import TinyModel
from tests.published import write_published
from tests.tiny import SETUPS, contents, filled, ids, same_contents, tiny_decoder


def logical(memory: Memory) -> dict[str, Any]:
    """What a memory holds; which slot a token lies in is nobody's business on disk."""
    return {name: value for name, value in contents(memory).items() if name != "order"}


@pytest.fixture
def saved(model: MPlusModel, tmp_path: Path) -> Path:
    """A stored memory."""
    directory = tmp_path / "anna"
    filled(model).save(directory)
    return directory


def data_file(directory: Path) -> Path:
    (found,) = directory.glob("memory-*.safetensors")
    return found


def change_manifest(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]  # as manifests of before; what the checksum finds is tested by itself
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


# -- the same afterwards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_loaded_memory_is_the_same_and_continues_identically(
    tiny_model: TinyModel, tmp_path: Path, setup: str, memory_format: Any
) -> None:
    model = tiny_model("llama", setup)
    memory = filled(model, memory_format=memory_format)
    memory.write(ids(9, 5), source="book.txt")
    memory.write(ids(1, 6), source="note")
    before = logical(memory)
    memory.save(tmp_path / "m")
    assert same_contents(before, logical(memory))
    loaded = Memory.load(tmp_path / "m", model)
    assert same_contents(before, logical(loaded))
    assert loaded.stats() == memory.stats()
    for one in (memory, loaded):
        one.write(ids(40, 7))
    assert same_contents(logical(memory), logical(loaded))
    prompt = ids(5, 8)[None]
    assert torch.equal(model(prompt, memory=memory).logits, model(prompt, memory=loaded).logits)


@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_memory_that_holds_little_comes_back(model: MPlusModel, tmp_path: Path, tokens: int) -> None:
    memory = model.new_memory(seed=4)
    if tokens:
        memory.write(ids(tokens, 1))
    memory.save(tmp_path / "m")
    assert same_contents(logical(memory), logical(Memory.load(tmp_path / "m", model)))


def test_cleared_after_loading_is_as_new(model: MPlusModel, tmp_path: Path) -> None:
    filled(model, seed=9).save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", model)
    loaded.clear()
    assert same_contents(logical(loaded), logical(model.new_memory(seed=9)))


@pytest.mark.parametrize("ltm", [True, False])
@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_memory_of_a_published_model_continues_identically(tmp_path: Path, ltm: bool, memory_format: Any) -> None:
    model = MPlusModel.from_pretrained(write_published(tmp_path / "model", ltm=ltm), dtype="float32", device="cpu")
    memory = model.new_memory(memory_format=memory_format)
    prompt = torch.arange(3, 9)[None]
    for step in range(3):
        memory.write(torch.arange(20) + step)
    memory.save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", model)
    for one in (memory, loaded):
        one.write(torch.arange(17))
    assert same_contents(logical(memory), logical(loaded))
    assert torch.equal(model(prompt, memory=memory).logits, model(prompt, memory=loaded).logits)


def test_pool_that_waits_for_its_first_write_is_remembered(tmp_path: Path) -> None:
    model = MPlusModel.from_pretrained(write_published(tmp_path / "model", ltm=False), dtype="float32", device="cpu")
    memory = model.new_memory(initialised=False)
    memory.save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", model)
    assert not loaded.initialised and len(loaded.short_term) == 0
    loaded.write(torch.arange(20))
    loaded.save(tmp_path / "m")
    again = Memory.load(tmp_path / "m", model)
    again.clear()
    assert not again.initialised and len(again.short_term) == 0


# -- whole or not at all ---------------------------------------------------------------------------------------------


def test_second_save_replaces_the_first_and_leaves_no_file_behind(model: MPlusModel, saved: Path) -> None:
    memory = Memory.load(saved, model)
    first = data_file(saved)
    memory.write(ids(30, 9))
    memory.save(saved)
    assert not first.exists()
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    named = [data_file(saved).name, *(segment["file"] for segment in manifest["segments"])]
    assert sorted(path.name for path in saved.iterdir()) == sorted(["manifest.json", *named])
    assert same_contents(logical(memory), logical(Memory.load(saved, model)))


class DiskFull(OSError):
    """What a failing disk raises."""


def broken(*args: Any, **kwargs: Any) -> None:
    raise DiskFull("no space left on device")


@pytest.mark.parametrize("step", ["save_file", "os.replace", "flush", "manifest_of"])
def test_failing_save_leaves_the_previous_state(
    model: MPlusModel, saved: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = logical(Memory.load(saved, model)), sorted(saved.iterdir())
    memory = Memory.load(saved, model)
    memory.write(ids(30, 9))
    with monkeypatch.context() as patch:
        if step == "os.replace":
            patch.setattr(os, "replace", broken)
        else:
            patch.setattr(snapshot, step, broken)
        with pytest.raises(SnapshotError, match="previous state is unchanged"):
            memory.save(saved)
    assert sorted(saved.iterdir()) == files
    assert same_contents(before, logical(Memory.load(saved, model)))


@pytest.mark.parametrize("step", ["save_file", "os.replace"])
def test_failing_first_save_does_not_stand_in_the_way_of_the_next(
    model: MPlusModel, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = filled(model)
    with monkeypatch.context() as patch:
        if step == "os.replace":
            patch.setattr(os, "replace", broken)
        else:
            patch.setattr(snapshot, step, broken)
        with pytest.raises(SnapshotError):
            memory.save(tmp_path / "m")
    memory.save(tmp_path / "m")
    assert same_contents(logical(memory), logical(Memory.load(tmp_path / "m", model)))


def test_save_after_a_crash_between_data_and_manifest_works_and_clears_up(model: MPlusModel, tmp_path: Path) -> None:
    directory = tmp_path / "m"
    directory.mkdir()
    (directory / "memory-0123456789abcdef.safetensors").write_bytes(b"half")
    (directory / ".manifest.json.0a1b2c3d").write_text("{", encoding="utf-8")
    memory = filled(model)
    memory.save(directory)
    assert sorted(path.name.partition("-")[0] for path in directory.iterdir()) == ["manifest.json", "memory", "segment"]
    assert same_contents(logical(memory), logical(Memory.load(directory, model)))


def test_foreign_directory_is_refused_and_left_alone(model: MPlusModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me", encoding="utf-8")
    with pytest.raises(SnapshotError, match="no memory"):
        filled(model).save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_in_the_place_of_a_directory_is_refused(model: MPlusModel, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(SnapshotError, match="is a file"):
        filled(model).save(path)
    with pytest.raises(SnapshotError):
        Memory.load(path, model)
    assert path.read_text(encoding="utf-8") == "hello"


# -- what is damaged or not ours ---------------------------------------------------------------------------------------


def test_truncated_data_is_refused(model: MPlusModel, saved: Path) -> None:
    path = data_file(saved)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(SnapshotError, match="truncated or altered"):
        Memory.load(saved, model)


def test_one_altered_byte_is_refused(model: MPlusModel, saved: Path) -> None:
    path = data_file(saved)
    spoilt = bytearray(path.read_bytes())
    spoilt[-3] ^= 1
    path.write_bytes(bytes(spoilt))
    with pytest.raises(SnapshotError, match="truncated or altered"):
        Memory.load(saved, model)


def test_missing_data_file_is_refused(model: MPlusModel, saved: Path) -> None:
    data_file(saved).unlink()
    with pytest.raises(SnapshotError, match="lacks its data file"):
        Memory.load(saved, model)


def test_missing_memory_says_how_to_make_one(model: MPlusModel, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="mplus write"):
        Memory.load(tmp_path / "nobody", model)


def test_directory_without_a_manifest_is_not_a_memory(model: MPlusModel, tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="not a memory"):
        Memory.load(tmp_path, model)


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", '"x"', "{}", '{"form": 1}', "\udcff"])
def test_unreadable_manifest_is_refused(model: MPlusModel, saved: Path, text: str) -> None:
    (saved / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SnapshotError, match="manifest"):
        Memory.load(saved, model)


def test_another_format_version_asks_for_an_update(model: MPlusModel, saved: Path) -> None:
    change_manifest(saved, lambda manifest: manifest.update(format=99))
    with pytest.raises(SnapshotError, match="update mplus"):
        Memory.load(saved, model)


FIELDS = (
    "model geometry memory_format seed now tokens_read initialised initialised_at_start stm_tokens ltm_tokens rows long names tails "
    "writes_since_merge pending chunks sources segments data"
).split()


@pytest.mark.parametrize("field", FIELDS)
def test_manifest_that_lacks_a_field_is_refused(model: MPlusModel, saved: Path, field: str) -> None:
    change_manifest(saved, lambda manifest: manifest.pop(field))
    with pytest.raises(SnapshotError, match="damaged"):
        Memory.load(saved, model)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, "x", [[["y"]]], -7])
def test_manifest_with_a_senseless_field_is_refused_or_harmless(model: MPlusModel, saved: Path, field: str, value: Any) -> None:
    change_manifest(saved, lambda manifest: manifest.update({field: value}))
    with contextlib.suppress(SnapshotError):
        Memory.load(saved, model)


def test_token_counts_that_do_not_match_are_refused(model: MPlusModel, saved: Path) -> None:
    change_manifest(saved, lambda manifest: manifest.update(ltm_tokens=1))
    with pytest.raises(SnapshotError, match="counts"):
        Memory.load(saved, model)


def test_data_file_outside_the_directory_is_never_opened(model: MPlusModel, saved: Path) -> None:
    outside = saved.parent / "outside.safetensors"
    os.replace(data_file(saved), outside)
    change_manifest(saved, lambda manifest: manifest["data"].update(file="../outside.safetensors"))
    with pytest.raises(SnapshotError, match="lacks its data file"):
        Memory.load(saved, model)


@pytest.mark.parametrize("spoil", ["missing", "shape", "type"])
def test_data_of_another_form_is_refused_even_with_a_fitting_checksum(model: MPlusModel, saved: Path, spoil: str) -> None:
    path = data_file(saved)
    tensors = load_file(path)
    if spoil == "missing":
        del tensors["short.rows"]
    elif spoil == "shape":
        tensors["short.rows"] = tensors["short.rows"][:, 1:].contiguous()
    else:
        tensors["generator"] = tensors["generator"].float()
    save_file(tensors, path)
    change_manifest(saved, lambda manifest: manifest["data"].update(bytes=path.stat().st_size, sha256=sha256(path)))
    with pytest.raises(SnapshotError, match="damaged"):
        Memory.load(saved, model)


def test_memory_of_another_model_names_both(model: MPlusModel, saved: Path) -> None:
    other = MPlusModel.from_base(tiny_decoder("qwen3"), geometry=model.geometry)
    with pytest.raises(WrongModelError, match="was written by model") as caught:
        Memory.load(saved, other)
    assert model.name in str(caught.value) and other.name in str(caught.value)


def test_memory_read_in_another_way_than_it_was_written_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    writer, reader = tiny_model("llama", "mixed"), tiny_model("llama", "mixed", memory_projection="write")
    filled(writer).save(tmp_path / "m")
    with pytest.raises(WrongModelError, match="was written by model"):
        Memory.load(tmp_path / "m", reader)


def test_load_needs_a_loaded_model(saved: Path) -> None:
    with pytest.raises(InputError, match="from_pretrained"):
        Memory.load(saved, "smollm2-135m")  # type: ignore[arg-type]
