"""Laws of `mplus sync`: a dry run does nothing, a run makes the memory hold the folder, and what could not be taken over is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.cli import main
from mplus.cli import sync as sync_command
from mplus.errors import CapacityError
from mplus.memory import folder_sync
from tests.tiny import contents, same_contents, text_model

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: MPlusModel) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "mplus-home"))
    monkeypatch.setattr(sync_command, "open_model", lambda name, **_: model)
    (tmp_path / "docs").mkdir()
    for name in ("a.txt", "b.md"):
        (tmp_path / "docs" / name).write_text(f"The text of {name}, which is long enough to be written.", encoding="utf-8")
    return tmp_path


@pytest.fixture
def sync(capsys: pytest.CaptureFixture[str]) -> Run:
    """`mplus sync ./m docs ...`: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["sync", "./m", "docs", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def test_a_dry_run_says_what_a_run_then_does(sync: Run, place: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sync_command, "open_model", lambda *given, **named: pytest.fail("a dry run opens no model"))
        planned = "new      docs/a.txt\nnew      docs/b.md\n2 new, 0 changed, 0 removed, 0 unchanged"
        assert sync("--dry-run") == (0, f"{planned}; nothing was done (--dry-run)\n", "")
        assert not (place / "m").exists()
    assert sync() == (0, f"{planned}; 111 tokens written\n", "reading: 111 tokens\n")
    before = contents(Memory.load(place / "m", model))
    assert sync() == (0, "0 new, 0 changed, 0 removed, 2 unchanged\n", "")

    (place / "docs" / "a.txt").unlink()
    (place / "docs" / "b.md").write_text("Another text.", encoding="utf-8")
    planned = "changed  docs/b.md\nremoved  docs/a.txt\n0 new, 1 changed, 1 removed, 0 unchanged"
    assert sync("--dry-run")[1] == f"{planned}; nothing was done (--dry-run)\n"
    assert same_contents(before, contents(Memory.load(place / "m", model)))
    assert sync()[1] == f"{planned}; 15 tokens written\n"
    assert {info.name for info in Memory.load(place / "m", model).sources()} == {"docs/b.md"}


def test_options_choose_files_and_names(sync: Run, place: Path, model: MPlusModel) -> None:
    assert sync("--pattern", "*.md", "--pattern", "x*", "--name", "manual")[0] == 0
    assert {info.name for info in Memory.load(place / "m", model).sources()} == {"manual/b.md"}


def test_what_cannot_be_taken_over_is_said(sync: Run, place: Path) -> None:
    (place / "docs" / "old.txt").write_bytes("Málaga".encode("latin-1"))
    (place / "docs" / ".hidden").touch()
    code, out, err = sync()
    assert code == 2
    assert err.splitlines()[1] == "left out: 'docs/.hidden': it is a hidden file"
    assert err.splitlines()[2].startswith("not read: ")
    assert "old.txt" in err
    assert out == "new      docs/a.txt\nnew      docs/b.md\n2 new, 0 changed, 0 removed, 0 unchanged; 111 tokens written\n"
    code, _, err = sync("--dry-run")
    assert code == 0
    assert "there is no folder '" in _error("./m", "nowhere")


def _error(*arguments: str) -> str:
    import contextlib
    import io

    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        assert main(["sync", *arguments]) == 2
    return told.getvalue()


def test_ctrl_c_keeps_what_was_done_and_the_next_run_goes_on(
    sync: Run, place: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_sync = folder_sync.apply_sync

    def stopped(memory: Memory, plan: Any, *, progress: Callable[[int, int], None]) -> Any:
        def show(done: int, total: int) -> None:
            progress(done, total)
            raise KeyboardInterrupt

        return apply_sync(memory, plan, progress=show)

    with monkeypatch.context() as patch:
        patch.setattr(sync_command, "apply_sync", stopped)
        code, _, err = sync()
    assert code == 130
    assert err.endswith("mplus: interrupted; what was done is stored, the same command goes on\n")
    assert Memory.load(place / "m", model).tokens_read == 32
    assert sync()[0] == 0
    memory = Memory.load(place / "m", model)
    assert {info.name: memory.text(info.name) for info in memory.sources()} == {
        f"docs/{name}": (place / "docs" / name).read_text() for name in ("a.txt", "b.md")
    }


def test_after_an_error_what_was_done_is_stored(
    sync: Run, place: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_sync = folder_sync.apply_sync

    def failing(memory: Memory, plan: Any, *, progress: Callable[[int, int], None]) -> Any:
        def show(done: int, total: int) -> None:
            raise CapacityError("there is no room for more")

        return apply_sync(memory, plan, progress=show)

    with monkeypatch.context() as patch:
        patch.setattr(sync_command, "apply_sync", failing)
        code, _, err = sync()
    assert (code, err.splitlines()[-1]) == (2, "mplus: there is no room for more")
    assert Memory.load(place / "m", model).tokens_read == 32
    assert sync()[0] == 0
    assert sync()[1] == "0 new, 0 changed, 0 removed, 2 unchanged\n"


def test_json_is_the_plan(sync: Run) -> None:
    facts = json.loads(sync("--json", "--dry-run")[1])
    assert (facts["new"], facts["done"], facts["tokens"]) == (["docs/a.txt", "docs/b.md"], False, 0)
    facts = json.loads(sync("--json")[1])
    assert (facts["new"], facts["done"], facts["tokens"]) == (["docs/a.txt", "docs/b.md"], True, 111)
    assert json.loads(sync("--json")[1])["unchanged"] == ["docs/a.txt", "docs/b.md"]
