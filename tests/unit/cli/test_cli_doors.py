"""Laws of the command line's doors: what is typed is bounded, what is printed cannot steer a terminal, and a broken stream loses nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import TypeAdapter

from mplus.cli import main, terminal
from mplus.cli import write as write_command
from mplus.cli.app import app
from mplus.cli.options import a_time
from mplus.cli.sheet import Sheet
from mplus.evaluation.ablations import parse_ablations
from mplus.evaluation.schedule.distances import Seeds
from mplus.memory.selection import Where
from mplus.memory.stored import read_stored
from mplus.training.run.recipe_file import read_recipe, recipe_names
from tests.tiny import text_model
from tests.unit.cli.test_commands import SOURCES, mistake, stored_memory

pytestmark = pytest.mark.slow

ESC = "\x1b[31m"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, home of memories and cache of base models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "mplus-home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def process(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Python code as its own process."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}{os.pathsep}{SOURCES.parent}", **options.pop("environment", {})}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, text=True, errors="replace", timeout=100, check=False, **options
    )


# --- two at once


def test_two_writers_into_one_memory_are_both_stored_and_the_second_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    models = {name: text_model() for name in ("first", "second")}
    begun = threading.Event()
    write = write_command.Run.write

    def slowly(run: write_command.Run, *given: Any) -> None:
        begun.set()
        time.sleep(1.5)  # the other is told after a second
        write(run, *given)

    monkeypatch.setattr(write_command.Run, "write", slowly)
    monkeypatch.setattr(write_command, "open_model", lambda name, **_: models[name])
    for name in models:
        (place / f"{name}.txt").write_text(f"The {name} of two texts, long enough to be written at once.", encoding="utf-8")
    failed: list[BaseException] = []

    def command(name: str) -> None:
        try:
            write_command.write(place / "memory", [f"{name}.txt"], model=name)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=command, args=(name,)) for name in models]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert {one.name for one in read_stored(place / "memory").sources} == {"first.txt", "second.txt"}
    assert "waiting for" in capsys.readouterr().err
    assert not (place / "memory" / ".save.lock").exists()


# --- streams


@pytest.mark.parametrize(
    ("arrange", "code", "expected"),
    [
        ("os.close(1)", 2, "mplus: stdout cannot be written"),
        ("os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", 2, "mplus: stdout cannot be written (No space left on device)"),
        ("os.close(2)", 0, ""),
        ("os.close(0)", 0, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_is_told_in_one_line(place: Path, arrange: str, code: int, expected: str) -> None:
    stored_memory(place / "memory")
    started = f"import os, sys; {arrange}; os.execv(sys.executable, [sys.executable, '-m', 'mplus.cli', 'info', 'memory'])"
    done = process(started)
    assert done.returncode == code
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == (1 if expected else 0)


def test_a_memory_that_is_stored_is_a_success_whatever_becomes_of_stdout(place: Path) -> None:
    (place / "a.txt").write_text("A text that is long enough to be written at once, it is said.", encoding="utf-8")
    code = (
        "import os, sys\n"
        "from tests.tiny import text_model\n"
        "from mplus.cli import main, write\n"
        "model = text_model()\n"
        "write.open_model = lambda name, **_: model\n"
        "sys.stdout = None\n"
        "closed = main(['write', './closed', 'a.txt'])\n"
        "sys.stdout = sys.__stdout__\n"
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
        "full = main(['write', './full', 'a.txt'])\n"
        "os._exit(10 * closed + full)"
    )
    done = process(code)
    assert done.returncode == 0, done.stderr
    for stream in ("closed", "full"):
        assert re.search(f"{stream} is stored, but stdout cannot be written", done.stderr), done.stderr
        assert [(one.name, one.tokens) for one in read_stored(place / stream).sources] == [("a.txt", 63)]


@pytest.mark.parametrize("command", [["write", "m", "-"], ["ask", "m", "-"]])
def test_closed_stdin_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path, command: list[str]
) -> None:
    stored_memory(place / "m")
    monkeypatch.setattr("sys.stdin", None)
    assert "stdin ('-') is closed" in mistake(capsys, *command)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a system without devices")
def test_a_device_is_refused_instead_of_read_to_its_end(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert "device" in mistake(capsys, "write", "m", "/dev/zero")
    assert list(place.iterdir()) == []


def test_endless_stdin_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return b"a" * size

    class Stdin:
        buffer = Endless()

    monkeypatch.setattr("sys.stdin", Stdin())
    assert "stdin has more than" in mistake(capsys, "write", "m", "-")


# --- what is shown


def test_steering_characters_of_names_are_shown_not_sent(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    stored_memory(place / "memory", model={"name": f"a{ESC}b", "fingerprint": "f9fb"}, sources={f"x{ESC}.txt": 1300})
    assert main(["info", "memory"]) == 0
    out = capsys.readouterr().out
    assert ESC not in out
    assert "x\\x1b[31m.txt" in out
    assert "a\\x1b[31mb" in out
    for command in (
        ["write", "m", f"no{ESC}.txt"],
        ["info", f"no{ESC}"],
        ["train", f"no{ESC}"],
        ["fetch", f"no{ESC}"],
        [f"x{ESC}"],
    ):
        assert "\x1b" not in mistake(capsys, *command)


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
@pytest.mark.parametrize("as_json", [False, True])
def test_every_encoding_of_stdout_takes_every_name(place: Path, encoding: str, as_json: bool) -> None:
    stored_memory(place / "memory", sources={"caf\u00e9 \u4eac \ud83d.txt": 1300})
    command = ["info", "memory", *(["--json"] if as_json else [])]
    code = f"import sys; from mplus.cli import main; sys.exit(main({command}))"
    done = process(code, environment={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert "caf" in done.stdout


def test_names_that_look_like_markup_are_plain_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with terminal.waiting("opening [/red] [bold]x"), terminal.token_bar("[/x]", 3) as show:
        show(1)


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_of_a_table_is_wider_than_the_terminal_and_no_number_is_cut(width: int) -> None:
    from rich.console import Console

    sheet = Sheet(("tokens back", *(f"system number {n}" for n in range(9))), title="a table of many columns")
    sheet.add_row("160,000", *(f"0.5{n} (123/456)" for n in range(9)))
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(sheet)
    text = console.export_text()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert all(f"0.5{n} (123/456)" in text for n in range(9))
    console.file.close()


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    name = "a long name " * 40 + ".txt"
    stored_memory(place / "memory", sources={name: 1300})
    assert main(["info", "memory"]) == 0
    assert any(line.startswith(name) and line.rstrip().endswith("1,300") for line in capsys.readouterr().out.splitlines())


# --- what is typed


@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--tokens", "99999999999999999999"],
        ["demo", "--tokens", "-1"],
        ["demo", "--tokens", "nan"],
        ["demo", "--questions", "99999999999"],
        ["demo", "--seed", "99999999999999999999"],
        ["ask", "m", "q", "--max-new-tokens", "99999999999999999999"],
        ["eval", "facts", "--out", "o", "--tokens", "99999999999999999999"],
        ["eval", "facts", "--out", "o", "--text-budget", "1e30"],
        ["bench", "--rounds", "99999999999999999999"],
        ["bench", "--layers", "-1"],
        ["info", ""],
        ["info", "a\0b"],
        ["export", "m", "--out", " "],
    ],
)
def test_numbers_and_paths_beyond_all_bounds_are_refused_at_once(
    capsys: pytest.CaptureFixture[str], place: Path, command: list[str]
) -> None:
    assert "see `mplus" in mistake(capsys, *command)
    assert list(place.iterdir()) == []


def test_a_tilde_is_the_home_directory(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "home").mkdir()
    stored_memory(place / "home" / "memory")
    assert main(["info", "~/memory"]) == 0
    assert "1,300 tokens" in capsys.readouterr().out


# --- without torch


@pytest.mark.parametrize(
    "command",
    [
        ["--version"],
        ["info", "memory"],
        ["info", "memory", "--json"],
        ["info", "nowhere"],
        ["list"],
        ["list", "--json"],
        ["fork", "memory", "twin"],
        ["delete", "nowhere", "--yes"],
        ["sources", "memory"],
        ["forget", "memory", "nowhere.txt"],
        ["forget", "memory", "ana.txt", "--dry-run"],
        ["replace", "memory", "nowhere.txt", "-"],
        ["export", "memory"],
        ["import", "nowhere.mplus"],
        ["fetch", "smolm"],
        ["fetch"],
        ["eval", "list"],
        ["train", "--list"],
        ["train", "adapt/memroy"],
        ["train", "adapt/memory", "--set", "nonsense=1"],
        ["write", "m", "nofile.txt"],
        ["write"],
        ["ask", "nowhere", "Where?"],
        ["demo", "--tokens", "-1"],
        ["bench", "--help"],
        ["train", "--help"],
    ],
    ids=" ".join,
)
def test_what_needs_no_model_opens_no_torch(
    monkeypatch: pytest.MonkeyPatch, no_torch: Callable[[list[str]], tuple[int, list[str]]], place: Path, command: list[str]
) -> None:
    code, loaded = no_torch(command)
    assert loaded == []
    assert code in (0, 2)


@pytest.fixture(scope="module")
def no_torch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], tuple[int, list[str]]]]:
    """Runs commands one after the other in a process of their own; gives the exit code and what was loaded by then."""
    directory = tmp_path_factory.mktemp("place")
    stored_memory(directory / "memory")
    code = (
        "import sys, json, contextlib, io\n"
        "from mplus.checkpoints.base_models import base\n"
        "base.fetch = lambda *given, **named: 'somewhere'\n"
        "from mplus.cli import main\n"
        "for line in sys.stdin:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        "        code = main(json.loads(line))\n"
        "    print(json.dumps([code, sorted({'torch', 'transformers', 'numpy', 'peft'} & set(sys.modules))]), flush=True)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCES),
        "MPLUS_CACHE": str(directory / "cache"),
        "MPLUS_HOME": str(directory / "h"),
    }
    import json

    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def ask(command: list[str]) -> tuple[int, list[str]]:
            asked.write(json.dumps(command) + "\n")
            asked.flush()
            code, loaded = json.loads(told.readline())
            return code, loaded

        yield ask
        asked.close()


# --- examples in help


def helps() -> Iterator[str]:
    """Every help text of every command."""
    waiting: list[Any] = [typer.main.get_command(app)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        yield command.help or ""
        yield command.epilog or ""
        yield from (getattr(option, "help", None) or "" for option in command.params)


def _is_distances(text: str) -> None:
    from mplus.evaluation.schedule.distances import parse_distances

    parse_distances(text)


def _is_hub_name(text: str) -> None:
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", text.strip("'"))


EXAMPLES: dict[str, Callable[[str], Any]] = {
    "adapt/memory": read_recipe,
    "optimiser.lr=1e-3": lambda text: read_recipe("adapt/memory", [text]),
    "0,4k,16k,160k": _is_distances,
    "4k,64k": _is_distances,
    "0,1,2": TypeAdapter(Seeds).validate_python,
    "k0-128:K0=128": lambda text: parse_ablations([text]),
    "'org/model'": _is_hub_name,
    "'*.md'": lambda text: fnmatchcase("docs/a.md", text.strip("'")) or pytest.fail(text),
    "'notes/*'": lambda text: Where(pattern=text.strip("'")),
    "2026-11-28": a_time,
}
"""Each example that a help shows, and what takes it."""


def test_examples_in_helps_work() -> None:
    found = {
        example.rstrip(".").rstrip(",")
        for text in helps()
        for example in re.findall(r"(?:e\.g\.|like|for example) (\S+?)[;)]?(?=\s|$)", text)
    }
    assert found == set(EXAMPLES)
    for example, takes in EXAMPLES.items():
        takes(example)


def test_commands_that_helps_name_exist(capsys: pytest.CaptureFixture[str]) -> None:
    named = {command for text in helps() for command in re.findall(r"`mplus ([^`]+)`", text)}
    assert named
    for command in named:
        words = list(takewhile(lambda word: word.isalpha() and word.islower(), command.split()))
        assert main([*words, "--help"]) == 0
    capsys.readouterr()


def test_every_shipped_recipe_opens_by_the_name_that_the_list_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    for name in recipe_names():
        assert name in out
        assert read_recipe(name).name
        assert read_recipe(f"recipes/{name}.yaml").name


def test_a_near_name_of_a_recipe_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert mistake(capsys, "train", "adapt/memroy") == "there is no recipe adapt/memroy; did you mean adapt/memory?"
    assert "mplus train --list" in mistake(capsys, "train")
