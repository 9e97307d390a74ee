"""Laws of a folder in a memory: it holds what the folder holds, touches nothing else, and takes up where it was stopped."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.errors import InputError
from mplus.memory.folder_sync import SyncPlan, SyncReport, apply_sync, plan_sync
from mplus.text.document_files import Skipped
from tests.tiny import contents, same_contents, text_model
from tests.unit.text.making import docx


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "docs"
    (place / "deep").mkdir(parents=True)
    for name in ("a.txt", "b.md", "deep/c.txt"):
        (place / name).write_text(
            f"The text of {name}, which is long enough for more than one chunk of the model.", encoding="utf-8"
        )
    return place


def planned(memory: Memory, folder: Path, **options: Any) -> SyncPlan:
    return plan_sync(folder, {info.name: info.digest for info in memory.sources()}, memory.notes, **options)


def synced(memory: Memory, folder: Path, **options: Any) -> SyncReport:
    return apply_sync(memory, planned(memory, folder, **options), at=1.0)


def names(plan: SyncPlan) -> tuple[list[str], list[str], list[str], list[str]]:
    """New, changed, removed, unchanged."""
    return [file.name for file in plan.new], [file.name for file in plan.changed], plan.removed, plan.unchanged


def test_a_memory_follows_a_folder(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    memory.write("A note of another kind.", "note", at=0.5)
    assert names(planned(memory, folder)) == (["docs/a.txt", "docs/b.md", "docs/deep/c.txt"], [], [], [])
    synced(memory, folder)
    assert names(planned(memory, folder)) == ([], [], [], ["docs/a.txt", "docs/b.md", "docs/deep/c.txt"])

    (folder / "a.txt").write_text("The text is another one now.", encoding="utf-8")
    (folder / "deep/c.txt").unlink()
    (folder / "new.txt").write_text("A new text.", encoding="utf-8")
    os.utime(folder / "b.md")
    plan = planned(memory, folder)
    assert names(plan) == (["docs/new.txt"], ["docs/a.txt"], ["docs/deep/c.txt"], ["docs/b.md"])
    report = apply_sync(memory, plan, at=2.0)
    assert sorted(report.written) == ["docs/a.txt", "docs/new.txt"]
    assert report.forgotten == ["docs/deep/c.txt"]
    assert {info.name for info in memory.sources()} == {"note", "docs/a.txt", "docs/b.md", "docs/new.txt"}
    assert memory.text("docs/a.txt") == "The text is another one now."
    assert planned(memory, folder).is_empty


def test_what_is_left_is_the_memory_that_never_read_the_rest(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder)
    (folder / "a.txt").unlink()
    synced(memory, folder)
    fresh = model.new_memory()
    synced(fresh, folder)
    assert same_contents(contents(memory), contents(fresh))


def test_only_sources_of_the_folder_are_forgotten_or_replaced(model: MPlusModel, folder: Path, tmp_path: Path) -> None:
    memory = model.new_memory()
    memory.write("Somebody else wrote this.", "docs/a.txt", at=0.5)
    memory.write("And this.", "docs/gone.txt", at=0.5)
    synced(memory, folder)
    plan = planned(memory, folder)
    assert names(plan) == ([], [], [], ["docs/b.md", "docs/deep/c.txt"])
    assert [(one.name, one.is_mistake) for one in plan.skipped] == [("docs/a.txt", True)]
    memory.replace("docs/b.md", "Corrected by hand.")
    (folder / "b.md").unlink()
    assert names(planned(memory, folder)) == ([], [], [], ["docs/deep/c.txt"])
    other = tmp_path / "other" / "docs"
    other.mkdir(parents=True)
    (other / "x.txt").write_text("Of another folder of the same name.", encoding="utf-8")
    assert names(planned(memory, other)) == (["docs/x.txt"], [], [], [])
    assert memory.text("docs/a.txt") == "Somebody else wrote this."


def test_a_forgotten_source_comes_back_and_nothing_of_it_is_noted_meanwhile(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder)
    memory.forget("docs/a.txt")
    assert set(memory.notes) == {"docs/b.md", "docs/deep/c.txt"}
    assert names(planned(memory, folder))[0] == ["docs/a.txt"]


def test_a_changed_file_of_the_same_text_is_only_noted(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder)
    before = contents(memory)
    (folder / "a.txt").write_bytes((folder / "a.txt").read_bytes() + b"")
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbf" + (folder / "a.txt").read_bytes())
    plan = planned(memory, folder)
    assert names(plan)[1] == ["docs/a.txt"]
    assert apply_sync(memory, plan).written == []
    assert same_contents(before, contents(memory))
    assert planned(memory, folder).is_empty


def test_files_without_text_are_no_sources_and_an_emptied_one_is_forgotten(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (folder / "empty.txt").touch()
    (folder / "a.txt").write_bytes(b"")
    plan = planned(memory, folder)
    assert names(plan) == ([], [], ["docs/a.txt"], ["docs/b.md", "docs/deep/c.txt"])
    assert plan.empty == ["docs/a.txt", "docs/empty.txt"]
    assert [(one.name, one.is_mistake) for one in plan.skipped] == [("docs/picture.png", False)]


def test_a_file_that_cannot_be_read_any_more_keeps_its_source(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    (folder / "w.docx").write_bytes(docx("Ana lives in Seville."))
    synced(memory, folder)
    (folder / "w.docx").write_bytes(docx("Ana lives in Porto.")[:-30])
    report = synced(memory, folder)
    assert [one.name for one in report.skipped] == ["docs/w.docx"]
    assert report.skipped[0].is_mistake
    assert memory.text("docs/w.docx") == "Ana lives in Seville."
    assert names(planned(memory, folder))[1] == ["docs/w.docx"]


@pytest.mark.parametrize("stop", [1, 60, 130])
def test_a_stopped_sync_goes_on(model: MPlusModel, folder: Path, stop: int) -> None:
    class Stop(Exception):
        """In place of Ctrl-C."""

    def progress(done: int, total: int) -> None:
        assert done <= total
        if done >= stop:
            raise Stop

    memory, whole = model.new_memory(), model.new_memory()
    synced(whole, folder)
    with pytest.raises(Stop):
        apply_sync(memory, planned(memory, folder), at=1.0, progress=progress)
    synced(memory, folder)
    assert same_contents(contents(memory), contents(whole))
    assert planned(memory, folder).is_empty


def test_patterns_leave_other_files_and_their_sources_alone(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    assert names(planned(memory, folder, patterns=["*.md"]))[0] == ["docs/b.md"]
    synced(memory, folder)
    (folder / "b.md").unlink()
    (folder / "a.txt").unlink()
    assert names(planned(memory, folder, patterns=["*.md"]))[2] == ["docs/b.md"]


def test_the_name_of_the_folder_can_be_chosen(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder, prefix="manual")
    assert {info.name for info in memory.sources()} == {"manual/a.txt", "manual/b.md", "manual/deep/c.txt"}
    assert planned(memory, folder, prefix="manual").is_empty
    (folder / "a.txt").unlink()
    assert planned(memory, folder, prefix="manual").removed == ["manual/a.txt"]


def test_a_folder_whose_files_are_all_gone_is_refused(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder)
    for path in list(folder.rglob("*.*")):
        path.unlink()
    with pytest.raises(InputError, match=r"holds no file any more, and the memory 3 sources of it; check that the disk is there"):
        planned(memory, folder)
    with pytest.raises(InputError, match="there is no folder"):
        planned(memory, folder / "nowhere")


def test_what_is_noted_is_the_content_of_the_file(model: MPlusModel, folder: Path) -> None:
    memory = model.new_memory()
    synced(memory, folder)
    noted = memory.notes["docs/a.txt"]["sync"]
    assert noted["file"] == hashlib.sha256((folder / "a.txt").read_bytes()).hexdigest()
    assert noted["folder"] == str(folder.resolve())
    assert isinstance(planned(memory, folder).to_json()["skipped"], list)
    assert not [one for one in planned(memory, folder).skipped if isinstance(one, Skipped)]
