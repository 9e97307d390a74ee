"""Laws of saving: the rename of the manifest is the commit, one changes a directory at a time, nothing stored is lost unsaid."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.errors import InputError, SnapshotError, StoreError
from mplus.memory import snapshot
from mplus.memory.manifest import read_manifest
from mplus.memory.stores import segments
from mplus.memory.stores.disk import DiskStorage
from mplus.memory.stores.lock import exclusive_change
from tests.conftest import TinyModel
from tests.tiny import contents, filled, ids, same_contents

pytestmark = pytest.mark.slow

FORMATS = Path(__file__).parents[2] / "formats"


def held_by(memory: Memory) -> dict[str, Any]:
    """What a memory holds, not in which slots."""
    return {name: value for name, value in contents(memory).items() if name != "order"}


def failing(monkeypatch: pytest.MonkeyPatch, name: str, number: int, error: type[BaseException], seen: list[int]) -> None:
    """Let the `number`-th call of a function of ``os`` fail."""
    own = getattr(os, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        if len(seen) == number:
            raise error(5, "injected") if issubclass(error, OSError) else error()
        return own(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize(
    ("call", "error"),
    [(call, OSError) for call in ("replace", "fsync", "open", "unlink", "mkdir", "link", "stat", "listdir")]
    + [(call, KeyboardInterrupt) for call in ("replace", "fsync")],
)
@pytest.mark.parametrize("where", ["plain", "own store"])
def test_a_failing_call_leaves_the_old_or_the_new_state_and_says_which(
    model: MPlusModel,
    tmp_path: Path,
    where: str,
    call: str,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "memory"
    store: Any = "ram" if where == "plain" else DiskStorage(tmp_path / "store", segment_rows=8)
    if where == "own store":
        place = tmp_path / "store"
    memory = filled(model, store=store)
    for number in range(1, 900, 23 if call == "stat" else 2 if call == "open" else 1):
        memory.save(place, overwrite=True)
        before = held_by(memory)
        memory.write(ids(16, number))
        after, seen, said = held_by(memory), list[int](), ""
        with monkeypatch.context() as patch:
            failing(patch, call, number, error, seen)
            try:
                memory.save(place)
            except (SnapshotError, KeyboardInterrupt) as refusal:
                said = type(refusal).__name__
        there = held_by(Memory.load(place, model))
        assert same_contents(there, after) or (said and same_contents(there, before)), (number, said)
        if said == "SnapshotError":
            assert same_contents(there, before)
        if len(seen) < number:
            assert not said
            break
    else:
        pytest.fail("a save makes more calls than were tried")
    if where == "own store":  # what a failing removal leaves in a store is cleared when it is opened again
        assert memory.storage is not None
        memory.storage.segment_directory.clear_leftovers()
    assert not [path for path in place.iterdir() if path.name.startswith((".aside", ".saving"))]


def test_a_failing_flush_after_the_commit_is_told_and_the_memory_is_stored(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory, seen = filled(model), list[str]()
    memory.save(tmp_path / "m")
    memory.write(ids(16, 4))

    def flushed(directory: Path) -> None:
        seen.append(directory.name)
        if len(seen) == 2:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("mplus.memory.snapshot.flush_names", flushed)
        memory.save(tmp_path / "m")
    assert "stored" in caplog.text and "not flushed" in caplog.text
    assert same_contents(held_by(memory), held_by(Memory.load(tmp_path / "m", model)))


# -- two that save -------------------------------------------------------------------------------------------------------


def test_a_save_over_what_somebody_stored_meanwhile_is_refused_unless_asked_for(model: MPlusModel, tmp_path: Path) -> None:
    filled(model).save(tmp_path / "m")
    first, second = (Memory.load(tmp_path / "m", model) for _ in range(2))
    first.write(ids(16, 4))
    second.write(ids(16, 5))
    first.save(tmp_path / "m")
    with pytest.raises(SnapshotError, match="load it and write again"):
        second.save(tmp_path / "m")
    with pytest.raises(SnapshotError, match="load it and write again"):
        second.fork().save(tmp_path / "m")
    assert same_contents(held_by(first), held_by(Memory.load(tmp_path / "m", model)))
    second.save(tmp_path / "elsewhere")
    second.save(tmp_path / "m", overwrite=True)
    assert same_contents(held_by(second), held_by(Memory.load(tmp_path / "m", model)))
    second.write(ids(16, 6))
    second.save(tmp_path / "m")


def test_the_lock_is_given_back_by_the_system_and_names_its_owner(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from mplus.memory.stores.lock import exclusive_change\n"
        "with exclusive_change(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "m")], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"process {holder.pid}"), exclusive_change(tmp_path / "m", timeout_s=0.1):
            pass
        told: list[str] = []
        thread = threading.Timer(1.5, holder.kill)
        thread.start()
        begun = time.monotonic()
        with exclusive_change(tmp_path / "m", timeout_s=30, tell=told.append):
            pass
        assert time.monotonic() - begun < 20 and len(told) == 1 and str(holder.pid) in told[0]
    assert list((tmp_path / "m").iterdir()) == [], "the killed one had made it"
    with exclusive_change(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists(), "a directory that stays empty is removed again"


def test_reading_needs_no_right_to_write_and_leaves_nothing(model: MPlusModel, tmp_path: Path) -> None:
    memory = filled(model)
    memory.save(tmp_path / "m")
    before = sorted(path.name for path in (tmp_path / "m").iterdir())
    (tmp_path / "m").chmod(0o555)
    try:
        assert same_contents(held_by(memory), held_by(Memory.load(tmp_path / "m", model)))
    finally:
        (tmp_path / "m").chmod(0o755)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == before


def test_a_reader_beside_a_saver_sees_whole_states(model: MPlusModel, tmp_path: Path) -> None:
    memory, done, wrong = filled(model), threading.Event(), list[BaseException]()
    memory.save(tmp_path / "m")

    def reads() -> None:
        while not done.is_set():
            try:
                loaded = Memory.load(tmp_path / "m", model)
                assert loaded.tokens_read == sum(loaded.ledger.tokens_by_source().values())
            except BaseException as error:
                wrong.append(error)

    thread = threading.Thread(target=reads)
    thread.start()
    for step in range(12):
        memory.write(ids(8, step))
        memory.save(tmp_path / "m")
    done.set()
    thread.join()
    assert not wrong


# -- what opening must not cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["data", "manifest", "model"])
def test_a_refused_load_into_its_own_store_deletes_nothing(
    model: MPlusModel, tiny_model: TinyModel, tmp_path: Path, damage: str
) -> None:
    memory = filled(model, tokens=200, store=DiskStorage(tmp_path / "m", segment_rows=16))
    memory.save(tmp_path / "m")
    whole = held_by(memory)
    del memory
    shutil.copytree(tmp_path / "m", tmp_path / "copy")
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text(encoding="utf-8"))
    reader = tiny_model("qwen2", "shared") if damage == "model" else model
    if damage == "data":
        next((tmp_path / "m").glob("memory-*")).write_bytes(b"")
    elif damage == "manifest":
        del manifest["checksum"]
        manifest["segments"] = []
        (tmp_path / "m" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SnapshotError):
        Memory.load(tmp_path / "m", reader, store=tmp_path / "m")
    for path in (tmp_path / "copy").glob("segment-*"):
        assert (tmp_path / "m" / path.name).exists()
    for path in (tmp_path / "copy").iterdir():
        shutil.copy(path, tmp_path / "m" / path.name) if not path.name.startswith("segment") else None
    assert same_contents(whole, held_by(Memory.load(tmp_path / "m", model, store=tmp_path / "m")))


def test_leftovers_are_cleared_after_a_good_load_and_by_the_next_save(model: MPlusModel, tmp_path: Path) -> None:
    filled(model).save(tmp_path / "m")
    left = [tmp_path / "m" / ".aside-0123456789abcdef", tmp_path / "m" / "memory-0123456789abcdef.safetensors"]
    left[0].mkdir()
    (left[0] / ".tmpAbCdEf").write_bytes(b"half")
    left[1].write_bytes(b"half")
    memory = Memory.load(tmp_path / "m", model)
    memory.save(tmp_path / "m")
    assert not any(path.exists() for path in left)


def test_files_have_the_mode_that_the_umask_gives(model: MPlusModel, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        memory = model.new_memory(store=DiskStorage(tmp_path / "store", segment_rows=16))
        memory.write(ids(200, 1), share=False)  # rows that were stored before keep their files, and their mode
        memory.save(tmp_path / "m")
    finally:
        os.umask(before)
    for path in (tmp_path / "m").iterdir():
        expected = 0o440 if path.name.startswith("segment") else 0o640
        assert path.stat().st_mode & 0o777 == expected, path.name


# -- places ----------------------------------------------------------------------------------------------------------------


def test_home_is_expanded_and_a_changed_working_directory_does_no_harm(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    memory = filled(model, tokens=40, store="rows")
    memory.save("~/m")
    assert (tmp_path / "home" / "m" / "manifest.json").exists() and not (tmp_path / "~").exists()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    memory.write(ids(40, 3))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert Memory.load("~/m", model).tokens_read == 40


@pytest.mark.parametrize("place", ["", 7, None, b"m", "a\0b"])
def test_what_is_no_place_is_refused(model: MPlusModel, place: Any) -> None:
    with pytest.raises(InputError, match="director"):
        filled(model, tokens=4).save(place)
    with pytest.raises(InputError, match="director"):
        Memory.load(place, model)


# -- manifests -------------------------------------------------------------------------------------------------------------

ALTERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "clock": lambda manifest: manifest.update(now=manifest["now"] + 1),
    "seed": lambda manifest: manifest.update(seed=99),
    "source": lambda manifest: manifest["names"].__setitem__(0, "other"),
    "waiting text": lambda manifest: manifest.update(pending=[["note", [5]]]),
    "capacity": lambda manifest: manifest["geometry"].update(ltm_capacity=80),
}
SENSELESS: dict[str, Callable[[dict[str, Any]], object]] = {
    "foreign token waits": lambda manifest: manifest.update(pending=[[None, [101]]]),
    "negative token waits": lambda manifest: manifest.update(pending=[[None, [-1]]]),
    "true waits": lambda manifest: manifest.update(pending=[[None, [True]]]),
    "a number as source": lambda manifest: manifest.update(pending=[[7, [5]]]),
    "clock too early": lambda manifest: manifest.update(now=3),
    "text miscounted": lambda manifest: manifest.update(tokens_read=manifest["tokens_read"] + 1),
    "chunks doubled": lambda manifest: manifest.update(chunks=2 * manifest["chunks"]),
    "names lacking": lambda manifest: manifest["names"].clear(),
    "sources miscounted": lambda manifest: manifest["sources"][0].update(tokens=5),
    "a source too many": lambda manifest: manifest["sources"].append({**manifest["sources"][0], "name": "other"}),
    "long-term tokens miscounted": lambda manifest: manifest.update(ltm_tokens=manifest["ltm_tokens"] + 1),
    "rows lacking": lambda manifest: manifest.update(rows=manifest["rows"] - 1),
    "all wait": lambda manifest: manifest["long"][0].update(waiting=10**6),
    "count is true": lambda manifest: manifest.update(stm_tokens=True),
    "huge count": lambda manifest: manifest.update(now=10**39),
}


@pytest.mark.parametrize("change", ALTERED)
def test_an_altered_manifest_is_found_by_its_checksum(model: MPlusModel, tmp_path: Path, change: str) -> None:
    filled(model).save(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    ALTERED[change](manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SnapshotError, match="checksum differs"):
        Memory.load(tmp_path / "m", model)


@pytest.mark.parametrize("change", SENSELESS)
def test_senseless_numbers_are_refused_without_a_checksum_too(model: MPlusModel, tmp_path: Path, change: str) -> None:
    filled(model).save(tmp_path / "m")
    path = tmp_path / "m" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["checksum"]
    SENSELESS[change](manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SnapshotError, match="restore it from a backup") as refusal:
        Memory.load(tmp_path / "m", model)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    ['{"format": Infinity}', '{"a":' * 5000, '{"format": 1' + "0" * 4300 + "}", '{"format": 1, "format": 1}', "[]", "", "\x00"],
)
def test_any_text_as_manifest_is_one_sentence(model: MPlusModel, tmp_path: Path, text: str) -> None:
    filled(model).save(tmp_path / "m")
    (tmp_path / "m" / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(SnapshotError) as refusal:
        Memory.load(tmp_path / "m", model)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_pipe_as_manifest_is_refused_at_once(model: MPlusModel, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "m" / "manifest.json")
    with pytest.raises(SnapshotError, match="regular file"):
        Memory.load(tmp_path / "m", model)


# -- what was stored once opens for ever -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "setup", "tokens"), [("1-plain", "shared", 70), ("2-segments", "shared", 151), ("1-per-layer", "output", 61)]
)
def test_memories_of_every_version_open(
    tiny_model: TinyModel, tmp_path: Path, name: str, setup: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored by commit 38848cd. The model is made of random numbers of this torch, so its fingerprint is not what is tested."""
    model = tiny_model("llama", setup)
    shutil.copytree(FORMATS / name, tmp_path / "m")
    wanted = read_manifest(tmp_path / "m")["model"]["fingerprint"]
    monkeypatch.setattr(model.writer, "_fingerprint", wanted)
    for store in (None, "ram", tmp_path / "rows"):
        memory = Memory.load(tmp_path / "m", model, store=store)
        assert memory.tokens_read + memory.pending_tokens == tokens + (1 if name == "1-plain" else 0)
        memory.write(ids(30, 3))
        assert model.generate(ids(4)[None], memory=memory, max_new_tokens=2, do_sample=False).shape == (1, 6)
    memory.save(tmp_path / "again")
    assert torch.equal(Memory.load(tmp_path / "again", model).placement.births, memory.placement.births)


def test_a_file_that_is_taken_away_while_it_is_opened_is_looked_for_anew(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data file vanishes because a newer state replaces it, at the moment at which a reader opens it."""
    memory, opens = filled(model), snapshot._load
    memory.save(tmp_path / "m")

    def taken_away(*arguments: Any, **named: Any) -> Memory:
        monkeypatch.setattr(snapshot, "_load", opens)
        memory.write(ids(8, 1))
        memory.save(tmp_path / "m")
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(snapshot, "_load", taken_away)
    assert Memory.load(tmp_path / "m", model).tokens_read == memory.tokens_read


@pytest.mark.parametrize("opened", [False, True])
def test_a_memory_that_is_saved_after_every_write_keeps_few_files(
    model: MPlusModel, tmp_path: Path, opened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each save writes what is new; when many small segments lie there they become one."""
    memory, written = model.new_memory(), list[int]()
    own = segments.write_segment

    def counted(directory: Path, rows: Any, *rest: Any, **options: Any) -> Any:
        written.append(next(iter(rows.values())).shape[0])
        return own(directory, rows, *rest, **options)

    monkeypatch.setattr(snapshot, "write_segment", counted)
    for step in range(60):
        memory.write(ids(8, step), source=f"s{step}", share=False)
        memory.save(tmp_path / "m")
        assert len(list((tmp_path / "m").glob("segment-*"))) <= snapshot.MANY_SMALL + 2
        if opened:
            memory = Memory.load(tmp_path / "m", model)
    assert sum(written) < 60 * 8 * 6, "most saves write their own rows only"
    assert same_contents(held_by(memory), held_by(Memory.load(tmp_path / "m", model, check_rows=True)))
