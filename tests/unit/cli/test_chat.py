"""Laws of `mplus chat`: what is said is stored before the next question, and nothing that goes wrong in a turn loses one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.cli import chat as chat_command
from mplus.cli import main, terminal
from mplus.trace.trace import Answer, Trace
from tests.tiny import text_model

pytestmark = pytest.mark.slow

TODAY = f"chat/{date.today().isoformat()}"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model(positions=4096)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: MPlusModel) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "mplus-home"))
    monkeypatch.setattr(chat_command, "open_model", lambda name, **_: model)
    return tmp_path


@pytest.fixture
def chat(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`mplus chat ./m ...` with lines on stdin: exit code, stdout, stderr."""

    def run(lines: str | bytes, *arguments: str) -> tuple[int, str, str]:
        data = lines if isinstance(lines, bytes) else lines.encode()
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: False))
        code = main(["chat", "./m", "--max-new-tokens", "5", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def stored(place: Path, model: MPlusModel) -> Callable[[], Memory]:
    return lambda: Memory.load(place / "m", model)


def turns(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_both_sides_are_stored_after_each_turn_and_the_next_chat_goes_on(chat: Run, stored: Callable[[], Memory]) -> None:
    code, out, err = chat("I live in Porto.\n\nWhere do I live?\n", "--json")
    assert (code, err) == (0, "")
    first, second = turns(out)
    said = "User: I live in Porto.\n\nAssistant: {}\n\nUser: Where do I live?\n\nAssistant: {}\n\n".format(
        first["answer"], second["answer"]
    )
    assert stored().text(TODAY) == said
    assert (first["message"], first["source"]) == ("I live in Porto.", TODAY)
    assert first["tokens"] + second["tokens"] == len(stored().ids(TODAY))
    chat("And now?\n", "--remember", "user")
    assert stored().text(TODAY) == said + "User: And now?\n\n"
    before = stored().tokens_read
    assert turns(chat("Hello?\n", "--remember", "none", "--json")[1])[0]["source"] is None
    assert stored().tokens_read == before


def test_an_answer_is_printed_as_it_is_made(chat: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[str] = []
    say = terminal.say_part

    def noted(text: str) -> None:
        pieces.append(text)
        say(text)

    monkeypatch.setattr(terminal, "say_part", noted)
    out = chat("Hello?\n", "--max-new-tokens", "60")[1]
    assert "".join(map(terminal.shown, pieces)) == out
    assert len(pieces) > 2


def test_sources_are_listed_and_forgotten(chat: Run, stored: Callable[[], Memory], place: Path, model: MPlusModel) -> None:
    memory = model.new_memory()
    memory.write("A note on boats.", "note", at=1.0)
    memory.save(place / "m")
    code, out, err = chat("/sources\n/forget note\n/sources\nHello?\n/help\n/exit\nnever read\n", "--json")
    assert (code, err) == (0, "")
    before, report, after, turn, commands = turns(out)
    assert before == {"sources": [{"source": "note", "tokens": 18}]}
    assert (report["sources"], report["tokens"], report["exact"]) == (["note"], 18, True)
    assert after == {"sources": []}
    assert turn["message"] == "Hello?"
    assert "/forget SOURCE" in commands["commands"]
    assert [info.name for info in stored().sources()] == [TODAY]
    assert "/forget SOURCE" in chat("/help\n")[1]
    assert chat("/sources\n")[1].endswith(f"  {TODAY}\n")


def test_the_last_answer_is_traced(chat: Run, place: Path, model: MPlusModel) -> None:
    memory = model.new_memory()
    memory.write("A note on the boats of Porto.", "note", at=1.0)
    memory.save(place / "m")
    code, out, err = chat("/trace\nHello?\n/trace\n", "--json", "--remember", "none")
    assert (code, err) == (2, "mplus: nothing was asked yet; /trace shows what the last answer drew on\n")
    assert [one["source"] for one in turns(out)[1]["trace"]["passages"]] == ["note"]
    assert "A note on the boats of Porto." in chat("Hello?\n/trace\n", "--remember", "none")[1]


def test_a_mistake_is_one_line_and_the_chat_goes_on(chat: Run, stored: Callable[[], Memory]) -> None:
    code, out, err = chat("/forget nothing\n/forget\n/frget x\nHello?\n", "--json")
    assert code == 2
    lines = err.splitlines()
    assert lines[0].startswith("mplus: no source 'nothing' in this memory")
    assert lines[1].startswith("mplus: name the source to forget")
    assert lines[2] == "mplus: there is no command /frget; did you mean '/forget'? /help lists them"
    assert len(lines) == 3
    assert [turn["message"] for turn in turns(out)] == ["Hello?"]
    assert stored().tokens_read


def test_what_others_store_meanwhile_is_kept(
    chat: Run, stored: Callable[[], Memory], place: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = model.chat

    def slowly(*given: Any, **named: Any) -> Any:
        if (place / "m").exists() and "note" not in {info.name for info in stored().sources()}:
            other = stored()
            other.write("Written meanwhile.", "note", at=1.0)
            other.save(place / "m")
        return answer(*given, **named)

    monkeypatch.setattr(model, "chat", slowly, raising=False)
    assert chat("One.\nTwo.\nThree.\n")[0] == 0
    assert {info.name for info in stored().sources()} == {"note", TODAY}
    assert [line for line in stored().text(TODAY).split("\n\n") if line.startswith("User")] == [
        "User: One.", "User: Two.", "User: Three.",
    ]  # fmt: skip


@pytest.mark.parametrize("at", [1, 2])
def test_ctrl_c_leaves_a_stored_memory(
    chat: Run, place: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch, stored: Callable[[], Memory], at: int
) -> None:
    answer, calls = model.chat, list[int]()

    def stop(*given: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return answer(*given, **named)

    monkeypatch.setattr(model, "chat", stop, raising=False)
    code, _, err = chat("One.\nTwo.\n")
    assert code == 130
    assert err == "mplus: interrupted; this turn is not remembered, those before it are stored\n"
    assert (place / "m").exists() == (at == 2)
    if at == 2:
        assert stored().text(TODAY).startswith("User: One.")
        assert "Two" not in stored().text(TODAY)


def test_at_a_terminal_ctrl_c_stops_an_answer_and_then_the_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model: MPlusModel
) -> None:
    typed = iter(["One.", "Two.", KeyboardInterrupt])

    def lines(prompt: str) -> Any:
        for line in typed:
            if line is KeyboardInterrupt:
                raise KeyboardInterrupt
            yield line

    asked: list[str] = []

    def answer(messages: Any, **named: Any) -> Answer:
        asked.append(messages[-1]["content"])
        if len(asked) == 1:
            raise KeyboardInterrupt
        return Answer("Yes.", Trace())

    monkeypatch.setattr(terminal, "lines", lines)
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr(model, "chat", answer, raising=False)
    assert main(["chat", "./m"]) == 130
    err = capsys.readouterr().err.splitlines()
    assert err[-2:] == ["stopped; this turn is not remembered", "mplus: interrupted; what was said is stored"]
    assert asked == ["One.", "Two."]


def test_a_line_without_end_and_bytes_that_are_no_text(
    chat: Run, monkeypatch: pytest.MonkeyPatch, stored: Callable[[], Memory]
) -> None:
    assert chat(b"caf\xe9?\n", "--remember", "user")[0] == 0
    assert stored().text(TODAY) == "User: caf\ufffd?\n\n"
    monkeypatch.setattr(terminal, "LONGEST_LINE_BYTES", 20)
    code, _, err = chat("x" * 21 + "\n")
    assert (code, err) == (2, "mplus: a line has more than 20 bytes; a message is a line, split it\n")
