"""Laws of a home: a name is a component of a path, a word means one memory, and a memory is whole until it is gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.errors import InputError, SnapshotError, StoreError
from mplus.memory.home import LONGEST_NAME_BYTES, Home, checked_name, default_home
from mplus.memory.parts import Part, parts_of
from mplus.memory.stored import StoredMemory
from mplus.memory.stores.lock import exclusive_change
from tests.conftest import TinyModel
from tests.tiny import filled

SOURCES = Path(__file__).parents[3] / "src"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home, with an empty working directory beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Home(tmp_path / "home")


def state(directory: Path) -> dict[str, bytes]:
    """Every file of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_memory_that_is_deleted_while_all_are_listed_is_left_out(
    home: Home, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        home.create(name, tiny_model("llama", "shared").new_memory(seed=0))
    deleted = home.path("b")

    def deletes(manifest: dict[str, Any], where: object) -> list[Part]:
        if where == deleted:
            shutil.rmtree(deleted)
        return parts_of(manifest, where)

    monkeypatch.setattr("mplus.memory.stored.parts_of", deletes)
    assert [one.path.name for one in home.all() if isinstance(one, StoredMemory)] == ["a", "c"] and len(home.all()) == 2


# -- names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes", "a", "Ana's notes (2)", "京都", "é" * 50, "x.y", "a..b", "-".join("ab"), "n" * 100])
def test_a_plain_name_is_taken_as_it_is(home: Home, name: str) -> None:
    assert checked_name(name) == name
    assert home.path(name).parent == home.memories


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "it is empty"),
        ("  ", "it is empty"),
        (".", "begins with '.'"),
        ("..", "begins with '.'"),
        ("...", "begins with '.'"),
        (".saving-0", "begins with '.'"),
        ("-x", "begins with '-'"),
        ("a/b", "a slash"),
        ("../a", "a slash"),
        ("a\\b", "a slash"),
        ("a\nb", "cannot be printed"),
        ("a\x1b[31m", "cannot be printed"),
        ("a\0", "cannot be printed"),
        ("\u202eabc", "cannot be printed"),
        ("half\ud83d", "cannot be printed"),
        (" a", "a space"),
        ("a ", "a space"),
        ("n" * 300, "it has 300 bytes, at most 100"),
        ("é" * 51, "it has 102 bytes"),
    ],
)
def test_what_cannot_be_a_name_is_refused_in_one_sentence(home: Home, name: str, problem: str) -> None:
    with pytest.raises(InputError, match="cannot name a memory") as refused:
        home.path(name)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
    assert not home.root.exists()


def test_the_longest_name_leaves_room_for_what_stands_beside_it(home: Home, model: MPlusModel) -> None:
    name = "n" * LONGEST_NAME_BYTES
    home.create(name, filled(model))
    home.fork(name, "m" * LONGEST_NAME_BYTES)
    home.delete(name)
    assert home.names() == ["m" * LONGEST_NAME_BYTES]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MPLUS_HOME": "/elsewhere"}, "/elsewhere"),
        ({"XDG_DATA_HOME": "/data"}, "/data/mplus"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/ana"}, "/ana/.local/share/mplus"),
        ({"HOME": "/ana", "MPLUS_HOME": ""}, "/ana/.local/share/mplus"),
    ],
)
def test_the_default_home_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("MPLUS_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_home() == Path(expected)


def test_a_user_without_a_home_directory_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MPLUS_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(InputError, match="set MPLUS_HOME"):
        Home()


# -- words for memories --------------------------------------------------------------------------------------------------


def test_a_word_is_a_name_and_a_slash_makes_a_path(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.resolve("notes") == home.root / "memories" / "notes"
    assert home.resolve("./notes") == Path("notes")
    assert home.resolve("a/notes") == Path("a/notes")
    assert home.resolve("~/notes") == tmp_path / "notes"
    assert home.resolve(Path("notes")) == Path("notes")


def test_a_directory_here_is_meant_only_if_it_holds_a_memory_and_the_home_has_none_of_that_name(
    home: Home, model: MPlusModel
) -> None:
    filled(model).save("notes")
    assert home.resolve("notes") == home.existing("notes") == Path("notes")
    Path("letters").mkdir()
    Path("letters/letter.txt").write_text("Dear Ana", encoding="utf-8")
    assert home.resolve("letters") == home.path("letters")
    home.create("letters", filled(model))
    assert home.existing("letters") == home.path("letters")


def test_a_file_here_is_no_name_for_a_new_memory(home: Home, model: MPlusModel) -> None:
    Path("a.txt").write_text("Dear Ana", encoding="utf-8")
    assert home.resolve("a.txt") == Path("a.txt")  # refused as a file; a name was left out
    home.create("a.txt", filled(model))
    assert home.resolve("a.txt") == home.path("a.txt")


def test_two_memories_of_one_name_are_not_mixed_up(home: Home, model: MPlusModel) -> None:
    home.create("notes", filled(model))
    filled(model).save("notes")
    with pytest.raises(InputError, match="names two memories"):
        home.resolve("notes")
    assert home.resolve("./notes") == Path("notes")


def test_inside_the_home_a_name_is_no_second_memory(home: Home, model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    home.create("notes", filled(model))
    monkeypatch.chdir(home.memories)
    assert home.existing("notes").samefile(home.path("notes"))


def test_an_unknown_memory_is_refused_with_a_near_name(home: Home, model: MPlusModel) -> None:
    with pytest.raises(SnapshotError, match="there is no memory 'notes' in .*; write it with"):
        home.existing("notes")
    home.create("notes", filled(model))
    with pytest.raises(SnapshotError, match="did you mean 'notes'"):
        home.existing("nots")
    with pytest.raises(SnapshotError, match="no memory at ./nots"):
        home.existing("./nots")


def test_labels_are_names_at_home_and_paths_elsewhere(home: Home) -> None:
    assert home.label(home.path("notes")) == "notes"
    assert home.label(Path("notes")) == "notes"  # relative, as it was typed
    assert home.label(Path("/x/notes")) == "/x/notes"


# -- what is there -------------------------------------------------------------------------------------------------------


def test_an_empty_home_has_no_memories_and_is_not_made(home: Home) -> None:
    assert home.names() == []
    assert home.all() == []
    assert not home.root.exists()


def test_all_memories_are_described_and_damaged_ones_say_why(home: Home, model: MPlusModel) -> None:
    memory = filled(model)
    home.create("b", memory)
    home.create("a", memory)
    (home.path("a") / "manifest.json").write_text("{", encoding="utf-8")
    (home.memories / "no memory").mkdir()
    (home.memories / ".hidden.01234567").mkdir()
    damaged, whole = home.all()
    assert isinstance(damaged, tuple) and damaged[0] == "a" and "cannot be read" in str(damaged[1])
    assert isinstance(whole, StoredMemory)
    assert (whole.path, whole.tokens_read, whole.sources) == (home.path("b"), memory.tokens_read, memory.sources())
    assert (whole.stm_tokens, whole.ltm_tokens) == (len(memory.short_term), len(memory.long_term))
    files = [path for path in home.path("b").iterdir() if path.name != "manifest.json"]
    assert whole.size_bytes == sum(path.stat().st_size for path in files)


def test_a_home_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "memories").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        Home(tmp_path).names()


def test_names_and_descriptions_load_no_torch(home: Home, model: MPlusModel) -> None:
    home.create("a", filled(model))
    code = (
        "import sys\nfrom mplus.memory.home import Home\n"
        f"home = Home({str(home.root)!r})\n"
        "assert len(home.all()) == 1\nhome.fork('a', 'b')\nhome.delete('a')\nassert home.names() == ['b']\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# -- create, fork, delete ------------------------------------------------------------------------------------------------


def test_what_is_created_opens_again(home: Home, model: MPlusModel) -> None:
    memory = filled(model)
    opened = Memory.load(home.create("notes", memory), model)
    assert opened.stats() == memory.stats()


def test_nothing_is_created_over_something(home: Home, model: MPlusModel) -> None:
    memory = filled(model)
    before = state(home.create("notes", memory))
    with pytest.raises(SnapshotError, match="a memory at .* already"):
        home.create("notes", filled(model, 9))
    assert state(home.path("notes")) == before


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_fork_on_disk_is_the_same_memory_and_shares_nothing_that_can_change(
    home: Home, model: MPlusModel, tmp_path: Path, on_disk: bool
) -> None:
    memory = filled(model, 161, store=tmp_path / "rows" if on_disk else "ram")
    home.create("a", memory)
    fork = home.fork("a", "b")
    assert state(fork) == state(home.path("a"))
    linked = [path.name for path in fork.iterdir() if path.stat().st_ino == (home.path("a") / path.name).stat().st_ino]
    assert [name for name in linked if name.startswith("memory-")]
    twin = Memory.load(fork, model)
    assert twin.stats() == memory.stats()
    before = state(home.path("a"))
    twin.write(list(range(3, 40)))
    twin.save(fork)
    assert state(home.path("a")) == before
    home.delete("a")
    assert Memory.load(fork, model).stats() == twin.stats() != memory.stats()


def test_a_fork_without_links_copies(home: Home, model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    home.create("a", filled(model))

    def refuse(*given: object) -> None:
        raise OSError(1, "not here")

    monkeypatch.setattr(os, "link", refuse)
    assert state(home.fork("a", "b")) == state(home.path("a"))


def test_a_fork_does_not_take_the_place_of_anything(home: Home, model: MPlusModel) -> None:
    home.create("a", filled(model))
    Path("full").mkdir()
    Path("full/letter.txt").write_text("Dear Ana", encoding="utf-8")
    for new in ("a", "./full"):
        with pytest.raises(SnapshotError, match="already"):
            home.fork("a", new)
    assert state(Path("full")) == {"letter.txt": b"Dear Ana"}
    assert [path.name for path in home.memories.iterdir()] == ["a"]


def test_a_fork_of_what_lacks_a_file_is_refused(home: Home, model: MPlusModel) -> None:
    directory = home.create("a", filled(model))
    next(directory.glob("memory-*")).unlink()
    with pytest.raises(SnapshotError, match="lacks files"):
        home.fork("a", "b")
    assert home.names() == ["a"]


def test_deleted_is_gone_with_all_files(home: Home, model: MPlusModel) -> None:
    home.create("a", filled(model))
    home.delete("a")
    assert list(home.memories.iterdir()) == []


def test_a_damaged_memory_can_be_deleted(home: Home, model: MPlusModel) -> None:
    (home.create("a", filled(model)) / "manifest.json").write_text("{", encoding="utf-8")
    home.delete("a")
    assert home.names() == []


def test_a_memory_beside_other_files_is_not_deleted(home: Home, model: MPlusModel) -> None:
    directory = home.create("a", filled(model))
    (directory / "letter.txt").write_text("Dear Ana", encoding="utf-8")
    before = state(directory)
    with pytest.raises(SnapshotError, match=r"also holds 'letter\.txt'"):
        home.delete("a")
    assert state(directory) == before
    Path("plain").mkdir()
    with pytest.raises(SnapshotError, match="is not a memory"):
        home.delete("./plain")
    assert Path("plain").is_dir()


def test_a_memory_that_is_in_use_is_not_deleted(home: Home, model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = model.new_memory(store=home.path("a"))
    memory.write(list(range(3, 90)))
    memory.save(home.path("a"))
    with pytest.raises(StoreError, match="in use"):
        home.delete("a")
    assert home.names() == ["a"]


def test_a_deletion_waits_for_its_turn(home: Home, model: MPlusModel) -> None:
    import threading

    home.create("a", filled(model))
    threads = [threading.Thread(target=home.delete, args=("a",))]
    with exclusive_change(home.path("a")):
        threads[0].start()
        threads[0].join(0.2)
        assert home.names() == ["a"]
    threads[0].join(20)
    assert home.names() == []


def test_a_lock_that_came_to_the_place_of_a_deleted_memory_is_left_alone(home: Home, model: MPlusModel) -> None:
    directory = home.create("a", filled(model))
    with exclusive_change(directory):
        os.rename(directory, home.memories / "b")
        directory.mkdir()
        (directory / ".save.lock").touch()  # of whoever writes there now
    assert (directory / ".save.lock").exists()


@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_a_deletion_that_fails_leaves_all_or_nothing(
    home: Home, model: MPlusModel, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = state(home.create("a", filled(model)))

    def fail(*given: object, **options: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os if step == "rename" else shutil, step, fail)
    with pytest.raises(OSError, match="Input/output"):
        home.delete("a")
    monkeypatch.undo()
    if step == "rename":
        assert state(home.path("a")) == before
    else:
        assert home.names() == []


def test_what_a_killed_deletion_left_is_gone_with_the_next_change(home: Home, model: MPlusModel) -> None:
    home.create("a", filled(model))
    home.create("b", filled(model))
    aside = home.memories / ".a.0123abcd"
    aside.mkdir()
    os.rename(home.path("a"), aside / "deleted")
    assert home.names() == ["b"]
    home.fork("b", "c")
    assert sorted(path.name for path in home.memories.iterdir()) == ["b", "c"]
