"""Laws of encrypted memories: the same memory bit for bit, nothing to be read in its files, and what was forgotten is gone from every copy."""

from __future__ import annotations

import json
import logging
import shutil
from array import array
from pathlib import Path

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.errors import InputError, SnapshotError
from mplus.memory import encrypted_snapshot
from mplus.memory.compact import compact
from mplus.memory.home import Home
from mplus.memory.keys import Keys
from mplus.memory.portable import export_memory, import_memory
from mplus.memory.verify import verify
from tests.conftest import TinyModel
from tests.tiny import contents, filled, ids, same_contents

pytest.importorskip("cryptography", reason="encryption needs: pip install 'mplus-llm[encrypt]'")


@pytest.fixture
def own(tiny_model: TinyModel) -> MPlusModel:
    """A model that encodes each source alone."""
    return tiny_model("llama", "shared", write_context="source")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Fresh keys."""
    return Keys.make(tmp_path / "keys")


@pytest.fixture
def memory(own: MPlusModel, keys: Keys) -> Memory:
    """Three sources, written in turns, to be encrypted."""
    memory = own.new_memory(seed=3)
    for number in range(6):
        memory.write(ids(24, number), source=f"ana-{number % 3}", at=1000.0 + number)
    memory.keys = keys
    return memory


def sealed_files(place: Path) -> set[str]:
    return {path.name for path in place.glob("source-*.encrypted")}


def readable_in(place: Path, memory: Memory) -> list[str]:
    """What of a memory can be read in the files of a directory."""
    log, data = memory.state.log, b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    rows = log.gather(torch.arange(log.start, log.end), tuple(log.fields))
    held = [row.contiguous().view(torch.uint8).numpy().tobytes() for field in rows.values() for row in field]
    told = {
        "rows": [row for row in held if len(set(row)) > 8],
        "ids": [array("i", chunk.ids[at : at + 4]).tobytes() for chunk in memory.ledger.chunks if chunk.ids for at in (0, 4)],
        "keys": [form for chunk in memory.ledger.chunks for form in (bytes.fromhex(chunk.key), chunk.key.encode())],
        "names": [info.name.encode() for info in memory.sources()],
        "digests": [info.digest.encode() for info in memory.sources()],
        "times": [array("d", [chunk.at or 0.0]).tobytes() for chunk in memory.ledger.chunks],
    }
    return [kind for kind, forms in told.items() if any(form in data for form in forms)]


def test_it_comes_back_bit_for_bit_and_goes_on_identically(own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path) -> None:
    memory.save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", own, keys=keys)
    assert same_contents(contents(loaded), contents(memory))
    assert loaded.sources() == memory.sources()
    for one in (loaded, memory):
        one.write(ids(24, 9), source="ana-1", at=2000.0)
        one.forget("ana-0")
    assert same_contents(contents(loaded), contents(memory))
    loaded.save(tmp_path / "m")
    assert same_contents(contents(Memory.load(tmp_path / "m", own, keys=keys)), contents(memory))


def test_an_evicting_memory_comes_back_too(tiny_model: TinyModel, keys: Keys, tmp_path: Path) -> None:
    model = tiny_model("llama", "shared", write_context="source", ltm_capacity=40)
    memory = model.new_memory(seed=3)
    memory.keys = keys
    for number in range(9):
        memory.write(ids(24, number), source="abc"[number % 3])
    memory.save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", model, keys=keys)
    assert same_contents(contents(loaded), contents(memory))
    for one in (loaded, memory):
        one.forget("b")
    assert same_contents(contents(loaded), contents(memory))


def test_nothing_can_be_read_in_the_files(memory: Memory, tmp_path: Path) -> None:
    memory.save(tmp_path / "encrypted")
    assert readable_in(tmp_path / "encrypted", memory) == []
    memory.keys = None
    memory.save(tmp_path / "plain")
    assert readable_in(tmp_path / "plain", memory) == ["rows", "ids", "keys", "names", "digests", "times"]  # the search can fail


def test_what_was_forgotten_is_gone_from_every_copy(own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path) -> None:
    place = tmp_path / "m"
    memory.save(place)
    shutil.copytree(place, tmp_path / "backup")
    export_memory(place, tmp_path / "backup.mplus")
    memory.forget("ana-1")
    memory.save(place)
    import_memory(tmp_path / "backup.mplus", tmp_path / "imported")
    for copy in ("m", "backup", "imported"):
        opened = Memory.load(tmp_path / copy, own, keys=keys)
        assert [info.name for info in opened.sources()] == ["ana-0", "ana-2"]
        assert same_contents(contents(opened), contents(memory))  # the memory that never read it


def test_a_replaced_text_is_forgotten_too(own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path) -> None:
    memory.save(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "backup")
    memory.forget("ana-1")
    memory.write(ids(30, 50), source="ana-1")
    memory.save(tmp_path / "m")
    assert "ana-1" not in [info.name for info in Memory.load(tmp_path / "backup", own, keys=keys).sources()]
    assert same_contents(contents(Memory.load(tmp_path / "m", own, keys=keys)), contents(memory))


def test_a_backup_that_is_used_costs_the_newer_memory_no_source(
    own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path
) -> None:
    memory.save(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "backup")
    memory.write(ids(24, 9), source="new")
    memory.save(tmp_path / "m")
    old = Memory.load(tmp_path / "backup", own, keys=keys)
    old.write(ids(24, 10), source="other")
    old.save(tmp_path / "backup")
    assert same_contents(contents(Memory.load(tmp_path / "m", own, keys=keys)), contents(memory))


def test_a_crash_before_the_key_is_destroyed_is_made_up_for(
    own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.save(tmp_path / "m")
    shutil.copytree(tmp_path / "m", tmp_path / "backup")
    memory.forget("ana-1")
    with monkeypatch.context() as patched:
        patched.setattr(encrypted_snapshot, "_destroy", lambda keys, forgotten: None)
        memory.save(tmp_path / "m")
    assert "ana-1" in [info.name for info in Memory.load(tmp_path / "backup", own, keys=keys).sources()]
    Memory.load(tmp_path / "m", own, keys=keys)
    assert "ana-1" not in [info.name for info in Memory.load(tmp_path / "backup", own, keys=keys).sources()]


def test_a_save_writes_only_the_sources_that_changed(own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path) -> None:
    memory.save(tmp_path / "m")
    first = sealed_files(tmp_path / "m")
    assert len(first) == 3
    loaded = Memory.load(tmp_path / "m", own, keys=keys)
    loaded.write(ids(24, 9), source="ana-1")
    loaded.save(tmp_path / "m")
    second = sealed_files(tmp_path / "m")
    assert len(second) == 3 and len(first & second) == 2
    loaded.forget("ana-0")
    loaded.save(tmp_path / "m")
    third = sealed_files(tmp_path / "m")
    assert len(third) == 2 and third < second


def test_the_home_key_can_be_changed(own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path) -> None:
    memory.save(tmp_path / "m")
    assert keys.rotate() == 3
    assert same_contents(contents(Memory.load(tmp_path / "m", own, keys=Keys(keys.directory))), contents(memory))
    memory.write(ids(24, 9), source="d")
    memory.save(tmp_path / "m")
    assert same_contents(contents(Memory.load(tmp_path / "m", own, keys=keys)), contents(memory))


def test_keys_are_found_where_the_home_says(
    own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.save(tmp_path / "m")
    monkeypatch.setenv("MPLUS_KEYS", str(keys.directory))
    assert same_contents(contents(Memory.load(tmp_path / "m", own)), contents(memory))
    monkeypatch.delenv("MPLUS_KEYS")
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path))
    assert same_contents(contents(Memory.load(tmp_path / "m", own)), contents(memory))
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "other"))
    with pytest.raises(InputError, match="there is no home key in"):
        Memory.load(tmp_path / "m", own)


def test_an_encrypted_memory_is_never_stored_as_it_is_by_the_way(
    own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path
) -> None:
    memory.save(tmp_path / "m")
    loaded = Memory.load(tmp_path / "m", own, keys=keys)
    loaded.write(ids(24, 9), source="ana-9")
    fork = loaded.fork()
    fork.save(tmp_path / "fork")
    assert readable_in(tmp_path / "fork", fork) == []
    plain = own.new_memory()
    plain.write(ids(24, 9), source="ana-9")
    with pytest.raises(SnapshotError, match="is encrypted, this one would be stored as it is; set memory.keys"):
        plain.save(tmp_path / "m", overwrite=True)
    fork.forget("ana-0")  # the fork has keys of its own
    fork.save(tmp_path / "fork")
    assert same_contents(contents(Memory.load(tmp_path / "m", own, keys=keys)), contents(memory))


def test_what_is_altered_or_missing_is_told(own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path) -> None:
    memory.save(tmp_path / "m")
    name = min(sealed_files(tmp_path / "m"))
    whole = (tmp_path / "m" / name).read_bytes()
    altered = bytearray(whole)
    altered[-1] ^= 1
    (tmp_path / "m" / name).write_bytes(altered)
    with pytest.raises(SnapshotError, match="cannot be decrypted: it was altered"):
        Memory.load(tmp_path / "m", own, keys=keys)
    assert verify(tmp_path / "m").findings
    (tmp_path / "m" / name).unlink()
    with pytest.raises(SnapshotError, match="is missing; restore it"):
        Memory.load(tmp_path / "m", own, keys=keys)
    (tmp_path / "m" / name).write_bytes(whole)
    assert verify(tmp_path / "m").is_sound and not verify(tmp_path / "m").notes
    assert compact(tmp_path / "m").rows_removed == 0
    stranger = Keys.make(tmp_path / "strangers")
    with pytest.raises(
        SnapshotError, match="no key of memory .*: all of it was forgotten, or these are the keys of another home"
    ):
        Memory.load(tmp_path / "m", own, keys=stranger)


def test_what_cannot_be_encrypted_is_told_before_anything_is_stored(
    tiny_model: TinyModel, own: MPlusModel, memory: Memory, keys: Keys, tmp_path: Path
) -> None:
    mixed = filled(tiny_model("llama", "shared", write_context="memory"))
    mixed.keys = keys
    on_disk = own.new_memory(store=tmp_path / "store")
    on_disk.keys = keys
    for one, says in ((mixed, "each chunk saw text of other sources"), (on_disk, "its rows lie in .* as they are")):
        with pytest.raises(InputError, match=says):
            one.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    memory.save(tmp_path / "m")
    with pytest.raises(InputError, match="its rows are kept in RAM; open it without a store"):
        Memory.load(tmp_path / "m", own, store=tmp_path / "m", keys=keys)
    with pytest.raises(SnapshotError, match="a copy of its files would share its keys"):
        Home(tmp_path / "home").fork(tmp_path / "m", "copy")


def test_the_manifest_names_no_source(memory: Memory, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        memory.save(tmp_path / "m")
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["format"] == 4 and manifest["names"] == [entry["name"] for entry in manifest["sources"]]
    assert all(len(name) == 32 for name in manifest["names"])
    assert "ana-1" not in caplog.text
