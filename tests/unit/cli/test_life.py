"""Laws of the commands for whole memories: list, info, fork, delete, and the names they take."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest

from mplus import MPlusModel
from mplus.cli import main
from mplus.cli.app import app
from mplus.memory.home import Home
from mplus.memory.stored import read_stored
from tests.unit.cli.test_commands import SOURCES, mistake, stored_memory

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home of memories, beside an empty working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    return Home()


@pytest.fixture
def notes(home: Home, text_model: MPlusModel) -> Path:
    """A memory of two sources in the home, called notes."""
    memory = text_model.new_memory(seed=0)
    memory.write("Ana Lopes lives in Seville and looks after the old lighthouse there.", source="ana.txt")
    memory.write("Oliver Quade is the harbour master of Brightmoor, and keeps a parrot.", source="letters/oliver.txt")
    return home.create("notes", memory)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    assert main(arguments) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def printed_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The same with --json, read."""
    return json.loads(printed(capsys, *arguments, "--json"))


def read(directory: Path) -> int:
    """Text tokens that a stored memory has read."""
    stored = read_stored(directory)
    return stored.tokens_read + stored.pending_tokens


def callbacks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each command with the types of its parameters."""
    for command in app.registered_commands:
        assert command.callback is not None
        yield (
            str(command.name),
            {
                name: get_type_hints(command.callback, include_extras=True)[name]
                for name in inspect.signature(command.callback).parameters
            },
        )


# -- all of them ---------------------------------------------------------------------------------------------------------


def test_every_command_that_takes_a_memory_takes_a_home_and_prints_json() -> None:
    taking = {name: set(parameters) for name, parameters in callbacks() if "memory" in parameters or "home" in parameters}
    assert {"list", "info", "fork", "delete", "write", "ask"} <= set(taking)
    assert {name for name, parameters in taking.items() if "home" not in parameters} == set()
    assert {name for name, parameters in taking.items() if "as_json" not in parameters} - {"write", "ask"} == set()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("..a", "begins with '.'"),
        ("a\nb", "cannot be printed"),
        ("\x1b[31m", "cannot be printed"),
        ("n" * 300, "300 bytes"),
        ("...", "begins with '.'"),
        ("a\\b", "a slash"),
    ],
)
@pytest.mark.parametrize("command", [["info"], ["delete"], ["fork", "notes"], ["write"]])
def test_what_cannot_name_a_memory_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], home: Home, notes: Path, command: list[str], name: str, problem: str
) -> None:
    line = mistake(capsys, *command, name, *(["-"] if command == ["write"] else []))
    assert problem in line
    assert "\x1b" not in line
    assert home.names() == ["notes"]
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "command", [["info", "nots"], ["delete", "nots", "--yes"], ["fork", "nots", "new"], ["ask", "nots", "Who?"]]
)
def test_an_unknown_memory_is_told_with_a_near_name(capsys: pytest.CaptureFixture[str], notes: Path, command: list[str]) -> None:
    assert "there is no memory 'nots'" in (line := mistake(capsys, *command))
    assert "did you mean 'notes'?" in line


def test_a_home_is_named_by_an_option_too(capsys: pytest.CaptureFixture[str], notes: Path, tmp_path: Path) -> None:
    assert printed_json(capsys, "list", "--home", str(tmp_path / "other")) == []
    assert printed_json(capsys, "fork", "notes", str(tmp_path / "other" / "memories" / "ana"))["new"].endswith(
        "/other/memories/ana"
    )
    assert [one["memory"] for one in printed_json(capsys, "list", "--home", str(tmp_path / "other"))] == ["ana"]
    assert printed_json(capsys, "info", "--home", str(tmp_path / "other"), "ana")["memory"] == "ana"
    assert printed_json(capsys, "info", "ana", "--home", str(tmp_path / "other"))["memory"] == "ana"


@pytest.mark.parametrize("content", ["{", '{"format": 99, "checksum": ""}'])
def test_a_memory_that_cannot_be_read_is_told_and_keeps_its_bytes(
    capsys: pytest.CaptureFixture[str], home: Home, notes: Path, content: str
) -> None:
    (notes / "manifest.json").write_text(content, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in notes.iterdir()}
    for command in (["info", "notes"], ["fork", "notes", "new"]):
        assert "notes" in mistake(capsys, *command)
    assert "cannot be read" in printed(capsys, "list")
    assert "manifest" in printed_json(capsys, "list")[0]["error"] or "format 99" in printed_json(capsys, "list")[0]["error"]
    assert {path.name: path.read_bytes() for path in notes.iterdir()} == before
    assert home.names() == ["notes"]


# -- list, info ----------------------------------------------------------------------------------------------------------


def test_list_shows_names_sizes_and_models(capsys: pytest.CaptureFixture[str], notes: Path) -> None:
    head, row = printed(capsys, "list").splitlines()
    assert head.split() == ["memory", "model", "read", "sources", "size", "changed"]
    assert row.split()[:4] == ["notes", "LlamaForCausalLM", str(read(notes)), "2"]
    (one,) = printed_json(capsys, "list")
    assert (one["memory"], one["path"], one["sources"]["ana.txt"]) == ("notes", str(notes), 68)


def test_list_of_nothing_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "mplus write" in err
    assert printed_json(capsys, "list") == []


def test_info_names_a_memory_as_it_is_typed(capsys: pytest.CaptureFixture[str], notes: Path) -> None:
    assert printed_json(capsys, "info", "notes")["memory"] == "notes"
    stored_memory(Path("other"))
    assert printed_json(capsys, "info", "other")["memory"] == "other"
    assert "memory" in printed(capsys, "info", "./other")


# -- fork, delete --------------------------------------------------------------------------------------------------------


def test_fork_makes_a_second_memory(capsys: pytest.CaptureFixture[str], home: Home, notes: Path) -> None:
    assert printed(capsys, "fork", "notes", "twin") == "forked notes to twin\n"
    assert printed_json(capsys, "fork", "notes", "third") == {"memory": "notes", "new": "third", "path": str(home.path("third"))}
    assert home.names() == ["notes", "third", "twin"]
    assert "already" in mistake(capsys, "fork", "notes", "twin")


def test_delete_asks_and_takes_only_a_yes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Home, notes: Path
) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert "--yes" in mistake(capsys, "delete", "notes")  # nobody is there
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    assert main(["delete", "notes"]) == 2
    assert f"delete the memory notes ({read(notes)} tokens of 2 sources)? [y/N]" in capsys.readouterr().err
    assert home.names() == ["notes"]
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert printed(capsys, "delete", "notes") == "deleted notes\n"
    assert home.names() == []


def test_delete_with_yes_asks_nobody(capsys: pytest.CaptureFixture[str], home: Home, notes: Path) -> None:
    assert printed_json(capsys, "delete", "notes", "--yes") == {"memory": "notes", "path": str(notes), "deleted": True}
    assert not notes.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_what_may_not_be_written_is_told_and_kept(notes: Path) -> None:
    notes.chmod(0o755)
    for parent in list(notes.parents)[:-1]:
        parent.chmod(parent.stat().st_mode | 0o555)
    for command in (["delete", "notes", "--yes"], ["fork", "notes", "twin"]):
        code = (
            "import contextlib, io, os, sys\n"
            "from mplus.cli import main\n"
            "with contextlib.redirect_stdout(io.StringIO()): main(['info', 'notes'])  # everything is imported that he cannot reach\n"
            f"os.setuid(65534)\nsys.exit(main({command!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "Permission denied" in done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in notes.parent.iterdir()) == ["notes"]


# -- export, import ------------------------------------------------------------------------------------------------------


def test_a_memory_travels_as_one_file(capsys: pytest.CaptureFixture[str], home: Home, notes: Path) -> None:
    assert printed(capsys, "export", "notes") == "notes.mplus\n"
    assert printed(capsys, "import", "notes.mplus", "twin") == "twin\n"
    assert {path.name: path.read_bytes() for path in home.path("twin").iterdir()} == {
        path.name: path.read_bytes() for path in notes.iterdir()
    }
    assert "not empty" in mistake(capsys, "import", "notes.mplus")
    home.delete("notes")
    assert printed_json(capsys, "import", "notes.mplus")["memory"] == "notes"


def mistakes(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The last line of a command that fails when it has begun."""
    assert main(arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_export_replaces_a_file_only_when_told(capsys: pytest.CaptureFixture[str], notes: Path) -> None:
    Path("mine.mplus").write_text("mine", encoding="utf-8")
    assert "--force" in mistake(capsys, "export", "notes", "--out", "mine.mplus")
    assert Path("mine.mplus").read_text(encoding="utf-8") == "mine"
    assert printed_json(capsys, "export", "notes", "--out", "mine.mplus", "--force")["file"] == "mine.mplus"
    assert Path("mine.mplus").read_bytes().startswith(b"PK")


def test_export_tells_memories_and_models_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Home, notes: Path
) -> None:
    opened: list[str] = []

    def open_model(name: str, **options: Any) -> Any:
        opened.append(name)
        return SimpleNamespace(checkpoint="weights")

    monkeypatch.setattr("mplus.cli.export.open_model", open_model)
    monkeypatch.setattr(import_module("mplus.checkpoints.export"), "save_published", lambda weights, out: out.mkdir())
    assert "--out DIR" in mistake(capsys, "export", "smollm2-135m")
    assert printed(capsys, "export", "smollm2-135m", "--out", "published") == "published\n"
    assert opened == ["smollm2-135m"]
    home.fork("notes", "smollm2-135m")
    assert "names a model and a memory" in mistake(capsys, "export", "smollm2-135m", "--out", "other")
    assert printed(capsys, "export", str(home.path("smollm2-135m")), "--out", "other.mplus") == "other.mplus\n"
    assert "did you mean 'notes'" in mistake(capsys, "export", "nots")
    assert opened == ["smollm2-135m"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"0" * 100])
def test_import_of_what_is_no_memory_makes_nothing(capsys: pytest.CaptureFixture[str], home: Home, content: bytes) -> None:
    Path("x.mplus").write_bytes(content)
    assert "x.mplus" in mistakes(capsys, "import", "x.mplus")
    assert "cannot be read" in mistakes(capsys, "import", "nowhere.mplus")
    assert "cannot name a memory" in mistakes(capsys, "import", "x.mplus", "..x")
    assert home.names() == []


# -- completion ----------------------------------------------------------------------------------------------------------


def completed(*words: str, incomplete: str = "") -> list[str]:
    """What a shell offers."""
    line = ["mplus", *words, incomplete]
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCES),
        "_MPLUS_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(line),
        "COMP_CWORD": str(len(line) - 1),
    }
    done = subprocess.run([sys.executable, "-m", "mplus.cli"], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_completes_commands_and_names(home: Home, notes: Path) -> None:
    home.fork("notes", "novel")
    home.fork("notes", "other")
    assert completed(incomplete="del") == ["delete"]
    assert completed("info", incomplete="no") == ["notes", "novel"]
    assert completed("info", "--home", "/nowhere", incomplete="no") == []
