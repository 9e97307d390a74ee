"""Laws of several that save: a save that said it stored is still there or was built upon; nobody's files are cleared under him."""

from __future__ import annotations

import gc
import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mplus import Memory, MPlusModel
from mplus.cli import main
from mplus.errors import SnapshotError, StoreError
from mplus.memory import snapshot
from mplus.memory.log import RowLog
from mplus.memory.manifest import as_file, read_manifest
from mplus.memory.stores import lock
from mplus.memory.stores.disk import DiskStorage
from mplus.memory.stores.lock import exclusive_change
from mplus.memory.stores.segments import Segment
from tests.tiny import contents, filled, ids, same_contents

pytestmark = pytest.mark.slow

FIELDS = {"rows": ((3,), torch.float32), "birth": ((), torch.int64)}
PAIRS = 12


def held_by(memory: Memory) -> dict[str, Any]:
    return {name: value for name, value in contents(memory).items() if name != "order"}


def files_named(place: Path) -> set[str]:
    """What a stored memory consists of."""
    manifest = read_manifest(place)
    return {"manifest.json", manifest["data"]["file"], *(segment["file"] for segment in manifest["segments"])}


def segment_files(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob("segment-*"))


def sources(memory: Memory) -> set[str]:
    return set(memory.ledger.tokens_by_source()) | {source or "" for source, _ in memory.pending}


# -- pairs ---------------------------------------------------------------------------------------------------------------


def add_text(place: Path, model: MPlusModel, name: str) -> None:
    """Open, write, save: what a server or a script does."""
    memory = Memory.load(place, model)
    memory.write(ids(8, len(name)), source=name)
    memory.save(place)


def begin_anew(place: Path, model: MPlusModel, name: str) -> None:
    memory = model.new_memory(seed=len(name))
    memory.write(ids(8, len(name)), source=name)
    memory.save(place)


def in_threads(works: Sequence[Callable[[], None]]) -> list[bool]:
    stored = [False] * len(works)
    gate = threading.Barrier(len(works))

    def run(number: int) -> None:
        gate.wait()
        try:
            works[number]()
            stored[number] = True
        except SnapshotError as refusal:
            assert "overwrite=True" in str(refusal)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return stored


def in_processes(works: Sequence[Callable[[], None]]) -> list[bool]:
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                work()
                code = 0
            except SnapshotError as refusal:
                code = 2 if "overwrite=True" in str(refusal) else 1
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert set(codes) <= {0, 2}, codes
    return [code == 0 for code in codes]


@pytest.mark.parametrize(
    "run", [in_threads, pytest.param(in_processes, marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"))]
)
@pytest.mark.parametrize("old", [True, False], ids=["over an old one", "new directory"])
def test_every_text_that_was_said_to_be_stored_is_there(
    model: MPlusModel, tmp_path: Path, run: Callable[[Sequence[Callable[[], None]]], list[bool]], old: bool
) -> None:
    place, expected = tmp_path / "m", set[str]()
    if old:
        filled(model, tokens=24).save(place)
        expected |= {""}
    for pair in range(PAIRS if old else 1):
        names = [f"{pair}{letter}" for letter in "ab"]
        works = [partial(add_text if old else begin_anew, place, model, name) for name in names]
        stored = run(works)
        assert any(stored), "one of two always succeeds"
        expected |= {name for name, done in zip(names, stored, strict=True) if done}
        if old:
            assert sources(Memory.load(place, model)) == expected
        else:  # who saved last, where both did one after the other
            assert sources(Memory.load(place, model)) in [{name} for name in expected]
    assert {path.name for path in place.iterdir()} == files_named(place)


def test_a_new_memory_replaces_another_one_and_says_so_but_not_what_was_stored_meanwhile(
    model: MPlusModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = filled(model), filled(model, text_seed=5)
    old.save(tmp_path / "m")
    new.save(tmp_path / "m")
    assert "another memory was stored in" in caplog.text and "it is replaced" in caplog.text
    assert same_contents(held_by(new), held_by(Memory.load(tmp_path / "m", model)))
    with pytest.raises(SnapshotError, match="stored by somebody else since"):
        old.save(tmp_path / "m")
    old.save(tmp_path / "m", overwrite=True)
    assert same_contents(held_by(old), held_by(Memory.load(tmp_path / "m", model)))


def test_what_a_memory_comes_from_it_may_replace_wherever_that_lies(model: MPlusModel, tmp_path: Path) -> None:
    filled(model).save(tmp_path / "m")
    memory = Memory.load(tmp_path / "m", model)
    os.rename(tmp_path / "m", tmp_path / "moved")
    (tmp_path / "copy").mkdir()
    for path in (tmp_path / "moved").iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    twin = memory.fork()
    twin.write(ids(9, 3))
    for place in ("moved", "copy", "m"):
        twin.save(tmp_path / place)
        assert same_contents(held_by(twin), held_by(Memory.load(tmp_path / place, model)))


def test_a_command_that_waits_too_long_says_for_whom_and_stores_nothing(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.1)
    begun, done, said = threading.Event(), threading.Event(), list[str]()

    def holds() -> None:
        with exclusive_change(tmp_path / "m"):
            begun.set()
            done.wait(30)

    thread = threading.Thread(target=holds)
    thread.start()
    begun.wait(30)
    try:
        with (
            pytest.raises(StoreError, match="changed by another thread of this process"),
            exclusive_change(tmp_path / "m", timeout_s=1.2, tell=said.append),
        ):
            pass
    finally:
        done.set()
        thread.join()
    assert len(said) == 1 and str(tmp_path / "m") in said[0]
    assert not (tmp_path / "m").exists()


# -- files that somebody still needs ---------------------------------------------------------------------------------------


def test_a_store_that_is_opened_during_a_save_clears_nothing_of_it(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = filled(model, tokens=90, store=DiskStorage(tmp_path / "rows", segment_rows=12))
    own, refused, threads = save_file, list[str](), list[threading.Thread]()

    def opens() -> None:
        try:
            model.new_memory(store=tmp_path / "m")
        except StoreError as refusal:
            refused.append(str(refusal))

    def slowly(*args: Any) -> None:  # all segments are linked by now, and no manifest names them
        threads.append(threading.Thread(target=opens))
        threads[0].start()
        threads[0].join(0.5)
        own(*args)

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "save_file", slowly)
        memory.save(tmp_path / "m")
    threads[0].join()
    assert len(refused) == 1 and "holds a saved memory" in refused[0]
    assert same_contents(held_by(memory), held_by(Memory.load(tmp_path / "m", model, check_rows=True)))


def test_a_save_leaves_the_segments_that_a_fork_has_yet_to_read(model: MPlusModel, tmp_path: Path) -> None:
    filled(model, tokens=90, store=DiskStorage(tmp_path / "rows", segment_rows=12), ltm_capacity=60).save(tmp_path / "m")
    memory, wanted = Memory.load(tmp_path / "m", model), held_by(Memory.load(tmp_path / "m", model))
    twin = memory.fork()
    memory.write(ids(90, 4))
    memory.save(tmp_path / "m")
    assert segment_files(tmp_path / "m"), "though the memory itself forgot these rows"
    assert same_contents(wanted, held_by(twin))
    del twin
    gc.collect()
    memory.save(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == files_named(tmp_path / "m")


def test_an_interrupt_behind_the_commit_costs_no_row(model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = filled(model, tokens=90, store=DiskStorage(tmp_path / "m", segment_rows=12))
    memory.save(tmp_path / "m")
    memory.write(ids(60, 4))

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_clear_up", interrupted)
        with pytest.raises(KeyboardInterrupt):
            memory.save(tmp_path / "m")
    after = held_by(memory)
    del memory
    gc.collect()
    assert same_contents(after, held_by(Memory.load(tmp_path / "m", model, check_rows=True)))


def test_the_state_before_stays_where_the_new_one_was_not_flushed(
    model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = filled(model, tokens=90, store=DiskStorage(tmp_path / "m", segment_rows=12), ltm_capacity=60)
    memory.save(tmp_path / "m")
    before, manifest = held_by(memory), (tmp_path / "m" / "manifest.json").read_bytes()
    memory.write(ids(60, 4))
    calls = list[Path]()

    def flushed(directory: Path) -> None:
        calls.append(directory)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "flush_names", flushed)
        memory.save(tmp_path / "m")
    after = held_by(memory)
    assert same_contents(after, held_by(Memory.load(tmp_path / "m", model, check_rows=True)))
    (tmp_path / "m" / "manifest.json").write_bytes(manifest)  # the power fails: the rename never reached the disk
    assert same_contents(before, held_by(Memory.load(tmp_path / "m", model, check_rows=True)))


def test_logs_in_several_threads_hold_their_files(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path / "rows", segment_rows=8)
    log = RowLog({"rows": ((3,), torch.float32)}, storage=storage)
    for number in range(5):
        log, _ = log.appended({"rows": torch.full((8, 3), float(number))})
        log = log.flushed()

    def forks(seed: int) -> None:
        chooser = random.Random(seed)
        held: list[RowLog] = []
        for _ in range(150):
            if held and chooser.random() < 0.5:
                held.pop(chooser.randrange(len(held)))
            else:
                held.append(log.trimmed(8 * chooser.randrange(3)))

    threads = [threading.Thread(target=forks, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    names = sorted(extent.piece.name for extent in log.extents if isinstance(extent.piece, Segment))
    assert segment_files(tmp_path / "rows") == names and len(names) == 5
    assert set(storage.segment_directory._claims.values()) == {1}
    with storage.segment_directory._guard:  # a finaliser that runs now waits for nobody
        log = log.trimmed(8)
        gc.collect()
    storage.segment_directory.set_saved(())
    assert len(segment_files(tmp_path / "rows")) == 4


# -- what is not stored leaves nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        {"pending": ((Path("a.txt"), (5,)),)},
        {"pending": ((None, (101,)),)},
        {"pending": ((None, (5.5,)),)},
        {"now": 1},
    ],
)
def test_a_memory_that_could_not_be_opened_again_is_not_stored(model: MPlusModel, tmp_path: Path, spoil: dict[str, Any]) -> None:
    memory = filled(model)
    memory.save(tmp_path / "m")
    before = sorted((tmp_path / "m").iterdir())
    changed = {"placement": replace(memory.placement, **spoil)} if "now" in spoil else spoil
    memory.become(replace(memory.state, **changed))
    with pytest.raises(SnapshotError, match="not stored in .* previous state is unchanged"):
        memory.save(tmp_path / "m")
    with pytest.raises(SnapshotError, match="previous state is unchanged"):
        memory.save(tmp_path / "new")
    assert sorted((tmp_path / "m").iterdir()) == before and not (tmp_path / "new").exists()


def test_what_a_killed_first_save_left_stops_neither_a_command_nor_a_store(
    model: MPlusModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("Ana lives in Porto.", encoding="utf-8")
    for name in ("m", "rows"):
        (tmp_path / name / ".saving-0123456789abcdef").mkdir(parents=True)
        (tmp_path / name / ".saving-0123456789abcdef" / ".tmpAbCdEf").write_bytes(b"half")
        (tmp_path / name / ".tmpAbCdEf").write_bytes(b"half, of an earlier version")
        (tmp_path / name / ".save.lock").write_text("12345\n", encoding="ascii")
    (tmp_path / "m" / "memory-0123456789abcdef.safetensors").write_bytes(b"whole, but never named")
    assert main(["write", str(tmp_path / "m"), str(tmp_path / "text"), "--model", str(tmp_path / "no-model")]) == 2
    assert "manifest" not in capsys.readouterr().err
    memory = filled(model, store=tmp_path / "rows")
    memory.save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir())[:1] == [".tmpAbCdEf"]
    assert {path.name for path in (tmp_path / "m").iterdir()} == files_named(tmp_path / "m") | {".tmpAbCdEf"}
    assert not (tmp_path / "rows" / ".saving-0123456789abcdef").exists()


# -- manifests without a checksum ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest["segments"].append(manifest["segments"][0]), "named twice"),
        (lambda manifest: manifest["segments"][0].update(rows=12.0), "names no segment"),
        (lambda manifest: manifest["segments"].pop(), "where they cannot be"),
        (lambda manifest: manifest["long"][0].update(tokens=1), "counts up to 1"),
        (lambda manifest: manifest["long"].append(manifest["long"][0]), "2 long-term groups"),
        (lambda manifest: manifest["long"][0].update(waiting=10**6), "wait, which cannot be"),
        (lambda manifest: manifest.update(rows=7), "the log ends at"),
        (lambda manifest: manifest.update(format=True), "format True"),
    ],
)
def test_counts_and_segments_that_cannot_be_are_refused(
    model: MPlusModel, tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    filled(model, tokens=90, store=DiskStorage(tmp_path / "rows", segment_rows=12)).save(tmp_path / "m")
    manifest = read_manifest(tmp_path / "m")
    change(manifest)
    content = as_file({key: value for key, value in manifest.items() if key != "checksum"})
    (tmp_path / "m" / "manifest.json").write_bytes(content)  # with a right checksum, as one who means harm would
    with pytest.raises(SnapshotError, match=reason):
        Memory.load(tmp_path / "m", model)


@pytest.mark.parametrize("store", [None, "ram", "rows"])
def test_a_load_whose_files_are_replaced_meanwhile_opens_the_new_state(
    model: MPlusModel, tmp_path: Path, store: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = filled(model, tokens=90, store=DiskStorage(tmp_path / "m", segment_rows=12), ltm_capacity=24)
    memory.save(tmp_path / "m")
    own, times = snapshot._segments, list[int]()

    def late(*args: Any, **options: Any) -> Any:
        if len(times) < 3:
            times.append(1)
            memory.write(ids(90, len(times)))
            memory.save(tmp_path / "m")  # the segments that the reader is about to map are gone
        return own(*args, **options)

    monkeypatch.setattr(snapshot, "_segments", late)
    loaded = Memory.load(tmp_path / "m", model, store=str(tmp_path / "rows") if store == "rows" else store)
    assert len(times) == 3 and same_contents(held_by(memory), held_by(loaded))
