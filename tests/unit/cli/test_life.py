"""Laws of the commands for whole memories: list, info, fork, delete, and the names they take."""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from mplus import Memory, MPlusModel
from mplus.cli import main, memory_picture
from mplus.cli.app import app
from mplus.memory.home import Home
from mplus.memory.stored import read_stored
from mplus.memory.stores.lock import exclusive_change
from mplus.runtime.extras import figure_of
from mplus.text.prompts import SEPARATOR
from tests import tiny
from tests.conftest import TinyModel
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
    memory.write(ANA, source="ana.txt")
    memory.write(OLIVER, source="letters/oliver.txt")
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


def test_every_command_that_takes_a_memory_takes_a_home() -> None:
    taking = {name: set(parameters) for name, parameters in callbacks() if "memory" in parameters or "home" in parameters}
    expected = "write sync chat ask list info sources forget replace merge fork delete reencode verify compact key encrypt export import mcp"
    assert set(taking) == set(expected.split())
    assert {name for name, parameters in taking.items() if "home" not in parameters} == set()


def test_every_command_prints_json_on_demand() -> None:
    assert {name for name, parameters in callbacks() if "as_json" not in parameters} == {
        "bench",
        "mcp",
    }  # options of its own; speaks a protocol


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


@pytest.mark.parametrize("command", [["list"], ["info", "notes"], ["fork", "./here", "notes"], ["import", "x.mplus", "notes"]])
def test_a_home_that_can_be_none_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, notes: Path, command: list[str]
) -> None:
    assert main(["export", "notes", "--out", "x.mplus"]) == main(["fork", "notes", "./here"]) == 0
    capsys.readouterr()
    Path("file").write_text("x", encoding="utf-8")
    monkeypatch.setenv("MPLUS_HOME", "file")
    assert "file" in mistakes(capsys, *command)
    assert Path("file").read_text(encoding="utf-8") == "x"


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
    assert (one["memory"], one["path"], one["sources"], one["tokens_read"]) == ("notes", str(notes), 2, read(notes))


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


@pytest.mark.parametrize(("kind", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_info_draws_a_memory(capsys: pytest.CaptureFixture[str], notes: Path, kind: str, begins: bytes) -> None:
    assert printed_json(capsys, "info", "notes", "--plot", f"notes.{kind}")["plot"] == f"notes.{kind}"
    assert Path(f"notes.{kind}").read_bytes().startswith(begins)
    assert printed(capsys, "info", "notes", "--plot", f"notes.{kind}").splitlines()[-1] == f"notes.{kind}"
    assert [path.name for path in Path.cwd().iterdir()] == [f"notes.{kind}"]


def test_a_picture_shows_each_source_with_its_tokens_and_the_ages_of_all(home: Home, text_model: MPlusModel) -> None:
    memory = text_model.new_memory(seed=0)
    for number in range(20):
        memory.write(f"Letter {number} is about the lighthouse of Brightmoor.", source=f"$letter_{number}$\x1b")
    stored = read_stored(home.create("notes", memory))
    (short,), (long,) = memory_picture._ages(stored)
    assert short == memory.ages(memory.placement.births[0]).tolist()
    assert long == memory.ages(memory.placement.long[0].births).tolist()
    figure = figure_of()
    axes = figure.add_subplot()
    memory_picture._draw_sources(axes, stored.sources)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 13 and labels[-1] == "8 others" and all("\x1b" not in label for label in labels)
    assert sum(bar.get_width() for bar in axes.patches) == sum(
        one.short_term + one.long_term + one.evicted for one in stored.sources
    )


def test_a_picture_of_layers_that_drop_apart_counts_their_mean(home: Home, tiny_model: TinyModel) -> None:
    memory = tiny.filled(tiny_model("llama", "per_layer"))
    short, long = memory_picture._ages(read_stored(home.create("notes", memory)))
    assert [len(short), len(long)] == [2, 2]
    axes = figure_of().add_subplot()
    memory_picture._draw_ages(axes, short, long)
    assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(len(memory.short_term) + sum(map(len, long)) / 2)


@pytest.mark.parametrize(
    ("file", "expected"),
    [("notes.txt", "names no picture"), ("nowhere/notes.png", "its directory is not there"), ("here.png", "it is a directory")],
)
def test_a_picture_that_cannot_be_written_is_told(
    capsys: pytest.CaptureFixture[str], notes: Path, file: str, expected: str
) -> None:
    Path("here.png").mkdir()
    assert expected in mistake(capsys, "info", "notes", "--plot", file)


def test_a_picture_of_an_old_format_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    stored_memory(Path("old"))
    assert "does not say where its tokens are" in mistake(capsys, "info", "old", "--plot", "old.png")
    assert not Path("old.png").exists()


# -- verify, compact -----------------------------------------------------------------------------------------------------


def test_verify_says_whether_a_memory_is_sound(capsys: pytest.CaptureFixture[str], notes: Path) -> None:
    assert printed(capsys, "verify", "notes").startswith("notes is sound (2 files")
    assert printed_json(capsys, "verify", "notes")["sound"] is True
    segment = next(notes.glob("segment-*"))
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.chmod(0o644)
    segment.write_bytes(content)
    assert main(["verify", "notes"]) == 1
    damaged, conclusion = capsys.readouterr().out.splitlines()
    assert damaged.startswith("damaged: ") and segment.name in damaged
    assert "restore it" in conclusion
    assert main(["verify", "notes", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["memory"], found["sound"], len(found["findings"])) == ("notes", False, 1)
    assert "nots" in mistake(capsys, "verify", "nots")


def test_compact_takes_forgotten_bytes_off_the_disk(
    capsys: pytest.CaptureFixture[str], notes: Path, text_model: MPlusModel, opening: list[str]
) -> None:
    assert main(["forget", "notes", "ana.txt", "--json"]) == 0
    capsys.readouterr()
    report = printed_json(capsys, "compact", "notes")
    assert report["rows_removed"] == tokens(ANA) and report["bytes_after"] < report["bytes_before"]
    assert "0 memory tokens" in printed(capsys, "compact", "notes")
    assert Memory.load(notes, text_model).text("letters/oliver.txt") == OLIVER


def test_forget_now_compacts_at_once(capsys: pytest.CaptureFixture[str], notes: Path, opening: list[str]) -> None:
    keys = next(load_file(path)["keys"] for path in notes.glob("segment-*"))
    gone = np.ascontiguousarray(keys[: len(ANA)]).tobytes()[:512]
    assert any(gone in content for content in files(notes).values())
    assert printed_json(capsys, "forget", "notes", "ana.txt", "--now")["compacted"]["rows_removed"] == tokens(ANA)
    assert not any(gone in content for content in files(notes).values())
    assert not any(b"ana.txt" in content for content in files(notes).values())


# -- sources -------------------------------------------------------------------------------------------------------------


def test_sources_are_listed_with_where_they_are(capsys: pytest.CaptureFixture[str], notes: Path, text_model: MPlusModel) -> None:
    expected = [asdict(one) for one in Memory.load(notes, text_model).sources()]
    assert printed_json(capsys, "sources", "notes") == printed_json(capsys, "info", "notes")["sources"] == expected
    head, ana, oliver = printed(capsys, "sources", "notes").splitlines()
    assert head.split("  ")[0] == "source" and head.split()[-1] == "evicted"
    assert ana.startswith("ana.txt") and ana.split()[1] == str(expected[0]["tokens"])
    assert ana.split()[-3:] == [str(expected[0][place]) for place in ("short_term", "long_term", "evicted")]
    assert oliver.startswith("letters/oliver.txt")


def test_sources_are_chosen_by_a_pattern(capsys: pytest.CaptureFixture[str], notes: Path) -> None:
    assert [one["name"] for one in printed_json(capsys, "sources", "notes", "--pattern", "letters/*")] == ["letters/oliver.txt"]
    assert main(["sources", "notes", "--pattern", "x*"]) == 0
    assert capsys.readouterr() == ("", "none of 2 sources matches 'x*'\n")


def test_sources_of_an_old_format_say_what_they_know(capsys: pytest.CaptureFixture[str]) -> None:
    stored_memory(Path("old"))
    assert printed(capsys, "sources", "old").split() == ["source", "tokens", "ana.txt", "1,000", "(no", "name)", "300"]
    assert printed_json(capsys, "sources", "old")[0]["long_term"] is None


def test_names_of_sources_are_shown_and_not_sent_to_the_terminal(
    capsys: pytest.CaptureFixture[str], home: Home, text_model: MPlusModel
) -> None:
    memory = text_model.new_memory()
    memory.write("A text that is long enough to be written at once.", source="a\x1b[31m\nb")
    home.create("notes", memory)
    out = printed(capsys, "sources", "notes")
    assert "\x1b" not in out and "a\\x1b[31m" in out


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


# -- forget, replace, merge ----------------------------------------------------------------------------------------------

ANA = "Ana Lopes lives in Seville and looks after the old lighthouse there."
OLIVER = "Oliver Quade is the harbour master of Brightmoor, and keeps a parrot."
MILL = "The gate code of the old mill is 5527."


def tokens(*texts: str) -> int:
    """Of texts that are sources of their own: one a byte, and what parts a source from what stands before it."""
    return sum(len(SEPARATOR + text) for text in texts)


@pytest.fixture
def opening(monkeypatch: pytest.MonkeyPatch, text_model: MPlusModel) -> list[str]:
    """The names of models that commands open, all of which are the tiny one."""
    opened: list[str] = []

    def open_model(name: str, **options: Any) -> MPlusModel:
        opened.append(name)
        return text_model

    for command in ("forget", "replace", "merge", "encrypt"):
        monkeypatch.setattr(import_module(f"mplus.cli.{command}"), "open_model", open_model)
    return opened


def digests(directory: Path) -> dict[str, str]:
    """Sources of a stored memory."""
    return {one.name: one.digest for one in read_stored(directory).sources}


def files(directory: Path) -> dict[str, bytes]:
    """All bytes of a stored memory."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_forget_leaves_the_memory_that_never_read_it(
    capsys: pytest.CaptureFixture[str], notes: Path, text_model: MPlusModel, opening: list[str]
) -> None:
    report = printed_json(capsys, "forget", "notes", "ana.txt")
    assert (report["memory"], report["sources"], report["tokens"], report["exact"]) == ("notes", ["ana.txt"], tokens(ANA), True)
    held = Memory.load(notes, text_model)
    never = text_model.new_memory(seed=0)
    never.write(OLIVER, source="letters/oliver.txt", at=held.ledger.chunks[0].at)
    assert held.stats() == never.stats()
    assert held.sources() == never.sources()


def test_forget_says_what_it_did(capsys: pytest.CaptureFixture[str], notes: Path, opening: list[str]) -> None:
    out = printed(capsys, "forget", "notes", "ana.txt", "letters/oliver.txt")
    assert "ana.txt, letters/oliver.txt" in out and f"{tokens(ANA, OLIVER)} tokens" in out and "as if it was never read" in out
    assert read_stored(notes).sources == []


def test_forget_by_pattern_and_time(
    capsys: pytest.CaptureFixture[str], home: Home, text_model: MPlusModel, opening: list[str]
) -> None:
    memory = text_model.new_memory()
    for day in range(1, 5):
        memory.write(f"On day {day} it rained in Brightmoor.", source=f"log/{day}", at=datetime(2026, 11, day, 12))
    memory.write("A letter of the second day.", source="letter", at=datetime(2026, 11, 2, 13))
    home.create("notes", memory)
    chosen = ["--pattern", "log/*", "--before", "2026-11-04", "--since", "2026-11-02T12:00"]
    planned = printed_json(capsys, "forget", "notes", *chosen, "--dry-run")
    assert [one["name"] for one in planned["sources"]] == ["log/2", "log/3"]
    assert "log/2" in printed(capsys, "forget", "notes", *chosen, "--dry-run")
    assert opening == []
    assert list(digests(home.path("notes"))) == ["log/1", "log/2", "log/3", "log/4", "letter"]
    assert printed_json(capsys, "forget", "notes", *chosen)["sources"] == ["log/2", "log/3"]
    assert list(digests(home.path("notes"))) == ["log/1", "log/4", "letter"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["forget", "notes", "anna.txt"], "did you mean 'ana.txt'?"),
        (["forget", "notes", "ana.txt", "x\x1b[31m"], "no source"),
        (["forget", "notes"], "name a source"),
        (["forget", "notes", "ana.txt", "--pattern", "*"], "one of both"),
        (["forget", "notes", "--pattern", "x*"], "no source of 2"),
        (["forget", "notes", "--before", "1999"], "is no time"),
        (["forget", "notes", "--before", "yesterday"], "is no time"),
        (["forget", "notes", "--since", "2999-01-01"], "no source of 2"),
        (["replace", "notes", "anna.txt", "new.txt"], "did you mean 'ana.txt'?"),
        (["replace", "notes", "ana.txt", "nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["replace", "notes", "ana.txt", "empty.txt"], "holds no text"),
        (["merge", "notes", "notes"], "merged with itself"),
        (["merge", "notes", "nots"], "did you mean 'notes'?"),
        (["merge", "notes"], "missing argument 'OTHER...'"),
    ],
)
def test_what_cannot_be_changed_is_told_before_a_model_is_opened_and_nothing_is_lost(
    capsys: pytest.CaptureFixture[str], notes: Path, opening: list[str], arguments: list[str], expected: str
) -> None:
    Path("empty.txt").write_text(" ", encoding="utf-8")
    before = files(notes)
    line = mistake(capsys, *arguments)
    assert expected in line
    assert "\x1b" not in line
    assert opening == []
    assert files(notes) == before


def test_a_change_that_fails_leaves_the_memory_as_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, notes: Path, opening: list[str]
) -> None:
    before = files(notes)
    new = Path("new.txt")
    new.write_text("Ana has moved to Lisbon.", encoding="utf-8")

    def stop(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Memory, "save", stop)
    for arguments in (["forget", "notes", "ana.txt"], ["replace", "notes", "ana.txt", "new.txt"]):
        assert main(arguments) == 130
        assert capsys.readouterr() == ("", "mplus: interrupted\n")
        assert files(notes) == before


def test_replace_puts_a_new_text_in_the_place_of_the_old_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, notes: Path, text_model: MPlusModel, opening: list[str]
) -> None:
    Path("new.txt").write_text("Ana has moved to Lisbon.", encoding="utf-8")
    report = printed_json(capsys, "replace", "notes", "ana.txt", "new.txt")
    assert (report["sources"], report["tokens"], report["tokens_now"]) == (
        ["ana.txt"],
        tokens(ANA),
        tokens("Ana has moved to Lisbon."),
    )
    held = Memory.load(notes, text_model)
    assert held.text("ana.txt") == "Ana has moved to Lisbon."
    assert held.text("letters/oliver.txt") == OLIVER
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"Ana is back in Seville.")))
    assert f"{tokens('Ana is back in Seville.')} tokens of the new text" in printed(capsys, "replace", "notes", "ana.txt", "-")
    assert Memory.load(notes, text_model).text("ana.txt") == "Ana is back in Seville."


def test_merge_takes_in_the_sources_of_others(
    capsys: pytest.CaptureFixture[str], home: Home, notes: Path, text_model: MPlusModel, opening: list[str]
) -> None:
    other = text_model.new_memory(seed=0)
    other.write(MILL, source="mill.txt")
    home.create("other", other)
    before = files(home.path("other"))
    assert main(["merge", "notes", "other", "--json"]) == 0
    merged = json.loads(capsys.readouterr().out)["merged"]
    assert [(one["other"], one["sources"], one["tokens"]) for one in merged] == [("other", ["mill.txt"], tokens(MILL))]
    assert list(digests(notes)) == ["ana.txt", "letters/oliver.txt", "mill.txt"]
    assert files(home.path("other")) == before
    assert "other" in printed(capsys, "merge", "notes", "other", "--prefix", "again/")
    assert list(digests(notes)) == ["ana.txt", "letters/oliver.txt", "mill.txt", "again/mill.txt"]


def test_reencode_writes_a_memory_for_another_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Home, notes: Path, text_model: MPlusModel
) -> None:
    models = {"LlamaForCausalLM": text_model, "same": foreign_model(text_model), "other": foreign_model(text_model, reverse=True)}
    opened: list[str] = []

    def open_model(name: str, **options: Any) -> MPlusModel:
        opened.append(name)
        return models[name]

    monkeypatch.setattr("mplus.cli.reencode.open_model", open_model)
    before = files(notes)
    report = printed_json(capsys, "reencode", "notes", "--model", "same", "--to", "twin")
    assert (report["memory"], report["tokens"], report["from_ids"]) == ("twin", tokens(ANA, OLIVER), True)
    assert opened == ["same"]
    assert files(notes) == before
    assert "from text" in printed(capsys, "reencode", "notes", "--model", "other")
    assert opened == ["same", "other", "LlamaForCausalLM"]  # the old one for its tokenizer
    assert Memory.load(notes, models["other"]).text("ana.txt") == ANA
    assert home.names() == ["notes", "twin"]
    assert "already" in mistakes(capsys, "reencode", "notes", "--model", "other", "--to", "twin")


def test_a_memory_that_kept_no_text_is_not_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    stored_memory(Path("old"))
    assert "did not keep what it read" in mistake(capsys, "reencode", "old", "--model", "x")


def foreign_model(text_model: MPlusModel, *, reverse: bool = False) -> MPlusModel:
    """A model with other weights, and if asked with another tokenizer, whose ids are in another order."""
    tokenizer = tiny.byte_tokenizer()
    if reverse:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)
        backend = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    return MPlusModel.from_base(tiny.tiny_decoder("qwen2", vocabulary=256), geometry=text_model.geometry, tokenizer=tokenizer)


def test_a_memory_that_another_command_changes_is_waited_for(
    capsys: pytest.CaptureFixture[str], notes: Path, opening: list[str]
) -> None:
    codes: list[int] = []
    with exclusive_change(notes):
        thread = threading.Thread(target=lambda: codes.append(main(["forget", "notes", "ana.txt"])))
        thread.start()
        thread.join(1.5)
        assert list(digests(notes)) == ["ana.txt", "letters/oliver.txt"]
    thread.join(30)
    assert codes == [0]
    assert list(digests(notes)) == ["letters/oliver.txt"]


def test_a_memory_of_another_model_is_not_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, notes: Path, text_model: MPlusModel
) -> None:
    foreign = foreign_model(text_model)
    monkeypatch.setattr("mplus.cli.forget.open_model", lambda name, **options: foreign)
    before = files(notes)
    assert "was written by model" in mistake(capsys, "forget", "notes", "ana.txt")
    assert files(notes) == before


# -- encryption ----------------------------------------------------------------------------------------------------------


def test_an_encrypted_memory_lives_like_any_other(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Home,
    notes: Path,
    text_model: MPlusModel,
    opening: list[str],
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.delenv("MPLUS_KEYS", raising=False)
    monkeypatch.setattr("mplus.cli.encrypt.open_model", lambda name, **options: text_model)
    assert "mplus key" in mistake(capsys, "encrypt", "notes")
    assert str(home.root / "keys") in printed(capsys, "key")
    assert "holds a home key already" in mistake(capsys, "key")
    plain = printed_json(capsys, "sources", "notes")
    assert printed_json(capsys, "encrypt", "notes")["sources"] == 2
    assert not any(word in content for content in files(notes).values() for word in (b"ana.txt", b"oliver"))
    assert printed_json(capsys, "sources", "notes") == plain
    assert printed_json(capsys, "key", "--rotate")["data_keys"] == 2
    assert completed("forget", "notes", incomplete="a") == ["ana.txt"]
    assert "is encrypted" in mistake(capsys, "fork", "notes", "twin")
    assert "encrypted" in mistake(capsys, "reencode", "notes", "--model", "x")
    assert main(["export", "notes", "--out", "before.mplus"]) == 0
    capsys.readouterr()
    assert printed_json(capsys, "forget", "notes", "ana.txt", "--now")["sources"] == ["ana.txt"]
    assert [one["name"] for one in printed_json(capsys, "sources", "notes")] == ["letters/oliver.txt"]
    assert printed_json(capsys, "verify", "notes")["sound"]
    assert main(["import", "before.mplus", "before"]) == 0
    assert (
        Memory.load(home.path("before"), text_model).sources() == Memory.load(notes, text_model).sources()
    )  # no old copy can be read


def test_an_encrypted_memory_without_its_keys_shows_numbers_and_no_names(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    notes: Path,
    text_model: MPlusModel,
    opening: list[str],
    tmp_path: Path,
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.delenv("MPLUS_KEYS", raising=False)
    monkeypatch.setattr("mplus.cli.encrypt.open_model", lambda name, **options: text_model)
    assert main(["key"]) == main(["encrypt", "notes"]) == 0
    monkeypatch.setenv("MPLUS_KEYS", str(tmp_path / "elsewhere"))
    capsys.readouterr()
    assert main(["sources", "notes", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "keys are not here" in err and "ana.txt" not in out
    assert [one["tokens"] for one in json.loads(out)] == [tokens(ANA), tokens(OLIVER)]
    for command in (["forget", "notes", "ana.txt"], ["replace", "notes", "ana.txt", "-"]):
        assert "no key in" in mistake(capsys, *command)
    assert opening == []


def test_a_home_that_an_option_names_has_its_own_keys(capsys: pytest.CaptureFixture[str], home: Home, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    assert printed_json(capsys, "key", "--home", str(tmp_path / "other"))["keys"] == str(tmp_path / "other" / "keys")
    assert os.environ["MPLUS_HOME"] == str(home.root)  # as it was


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
    assert completed("forget", "notes", incomplete="") == ["ana.txt", "letters/oliver.txt"]
    assert completed("forget", "notes", incomplete="let") == ["letters/oliver.txt"]
    assert completed("forget", "nots", incomplete="let") == []
