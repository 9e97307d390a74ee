"""Laws of `mplus write`: what can be read is stored and the rest is said, nothing doubles unaware, Ctrl-C keeps what was read."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mplus import Memory, MPlusModel
from mplus.cli import main
from mplus.cli import write as write_command
from mplus.memory import source_texts
from tests.tiny import contents, same_contents, text_model
from tests.unit.text.making import docx, pdf

pytestmark = pytest.mark.slow

ANA = "Ana Lopes lives in Seville and looks after the old lighthouse there. She has two cats."
ILSE = "Ilse Varga was born in Tromso and keeps a red boat in the harbour of Porto, where she lives."
EMPTY_LINE = 2
"""Tokens, a byte each, that a source begins with."""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: MPlusModel) -> Path:
    """A working directory with two texts, and a tiny model in place of the real one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLUS_HOME", str(tmp_path / "mplus-home"))
    monkeypatch.setattr(write_command, "open_model", lambda name, **_: model)
    (tmp_path / "ana.txt").write_text(ANA, encoding="utf-8")
    (tmp_path / "ilse.md").write_text(ILSE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def write(capsys: pytest.CaptureFixture[str]) -> Run:
    """`mplus write ./m ...`: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["write", "./m", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture
def stored(place: Path, model: MPlusModel) -> Callable[[], Memory]:
    return lambda: Memory.load(place / "m", model)


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False))


def sources(memory: Memory) -> dict[str, str]:
    return {info.name: memory.text(info.name) for info in memory.sources()}


def test_documents_of_every_kind_become_sources(write: Run, stored: Callable[[], Memory], place: Path) -> None:
    (place / "docs").mkdir()
    (place / "docs" / "a.pdf").write_bytes(pdf("Ana sails."))
    (place / "docs" / "b.docx").write_bytes(docx("Ilse sails."))
    (place / "docs" / "c.html").write_text("<p>Both <b>sail</b>.", encoding="utf-8")
    (place / "docs" / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    code, out, err = write("ana.txt", "docs", "*.md")
    assert code == 0
    assert sources(stored()) == {
        "ana.txt": ANA, "docs/a.pdf": "Ana sails.", "docs/b.docx": "Ilse sails.", "docs/c.html": "Both **sail**.", "ilse.md": ILSE,
    }  # fmt: skip
    assert err == "left out: 'docs/picture.png' is a PNG picture, not text; give a UTF-8 text file\n"
    assert re.search(rf"read now +{len(ANA) + len(ILSE) + 35 + 5 * EMPTY_LINE} tokens", " ".join(out.split("\n")))


def test_a_bad_file_is_said_and_the_rest_is_stored(write: Run, stored: Callable[[], Memory], place: Path) -> None:
    (place / "latin.txt").write_bytes("Málaga".encode("latin-1"))
    (place / "broken.pdf").write_bytes(b"%PDF-1.7\n1 0 obj")
    code, _, err = write("latin.txt", "ana.txt", "broken.pdf", "nowhere.txt")
    assert code == 2
    assert set(sources(stored())) == {"ana.txt"}
    assert [line.split(" ")[:3] for line in err.splitlines()] == [
        ["not", "read:", "there"], ["not", "read:", "'latin.txt'"], ["not", "read:", "'broken.pdf'"],
    ]  # fmt: skip


def test_where_nothing_can_be_read_nothing_is_stored(write: Run, place: Path) -> None:
    (place / "empty.txt").touch()
    code, out, err = write("empty.txt", "nowhere.txt")
    assert (code, out) == (2, "")
    assert err.endswith("mplus: none of 2 files could be read; nothing was stored\n")
    assert err.count("\n") == 3
    assert not (place / "m").exists()


def test_the_same_text_is_not_written_twice_unless_asked_for(write: Run, stored: Callable[[], Memory]) -> None:
    write("ana.txt")
    before = contents(stored())
    code, _, err = write("ana.txt")
    assert (code, err) == (0, "'ana.txt' is in the memory with the same text already; --again writes it once more\n")
    assert same_contents(before, contents(stored()))
    assert write("ana.txt", "--again")[0] == 0
    assert sources(stored()) == {"ana.txt": ANA + ANA}


def test_the_same_text_under_another_name_is_said(write: Run, stored: Callable[[], Memory], place: Path) -> None:
    write("ana.txt")
    (place / "copy.txt").write_text(ANA, encoding="utf-8")
    code, _, err = write("copy.txt")
    assert (code, err) == (0, "'copy.txt' has the same text as 'ana.txt', which is in the memory too\n")
    assert set(sources(stored())) == {"ana.txt", "copy.txt"}


def test_another_text_of_the_same_name_replaces_only_where_asked_for(
    write: Run, stored: Callable[[], Memory], place: Path
) -> None:
    write("ana.txt", "ilse.md")
    (place / "ana.txt").write_text(ILSE[::-1], encoding="utf-8")
    code, _, err = write("ana.txt")
    assert code == 2
    assert err.startswith("'ana.txt' is in the memory with another text; --replace puts this one in its place")
    assert sources(stored()) == {"ana.txt": ANA, "ilse.md": ILSE}
    assert write("ana.txt", "--replace")[0] == 0
    assert sources(stored()) == {"ana.txt": ILSE[::-1], "ilse.md": ILSE}


def test_name_and_time_can_be_given(write: Run, stored: Callable[[], Memory]) -> None:
    assert write("ana.txt", "--source", "people/ana", "--at", "2026-11-28T18:30:00Z")[0] == 0
    (info,) = stored().sources()
    assert (info.name, info.first_at, info.last_at) == ("people/ana", 1795890600.0, 1795890600.0)
    code, _, err = write("ana.txt", "ilse.md", "--source", "both")
    assert (code, err) == (2, "mplus: --source names one text, and there are 2; leave it out, or name one file\n")
    assert "is no time; expected a day or a moment" in write("ana.txt", "--at", "yesterday")[2]


def test_each_text_that_is_piped_in_is_a_source_of_its_own(
    write: Run, stored: Callable[[], Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in (ANA, ILSE, ANA):
        piped(monkeypatch, text)
        assert write("-")[0] == 0
    piped(monkeypatch, ANA * 2)
    assert write("-", "--source", "mine")[0] == 0
    assert sources(stored()) == {"stdin": ANA, "stdin 2": ILSE, "mine": ANA * 2}


def test_control_tokens_are_characters_unless_asked_for(
    write: Run, stored: Callable[[], Memory], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = text_model()
    own.parts.decoder.model.resize_token_embeddings(260)
    monkeypatch.setattr(write_command, "open_model", lambda name, **_: own)
    own.tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    (place / "quote.txt").write_text("It says <|end|>, and goes on.", encoding="utf-8")
    assert write("quote.txt")[0] == 0
    memory = Memory.load(place / "m", own)
    assert memory.text("quote.txt") == "It says <|end|>, and goes on."
    assert 256 not in memory.ids("quote.txt")


# --- interrupts


def interrupted_after(tokens: int) -> Callable[..., int]:
    """``write_texts`` with Ctrl-C once so many tokens are done."""
    write_texts = source_texts.write_texts

    def stopped(memory: Memory, planned: Any, *, progress: Callable[[int], None], **options: Any) -> int:
        def show(done: int) -> None:
            progress(done)
            if done >= tokens:
                raise KeyboardInterrupt

        return write_texts(memory, planned, progress=show, **options)

    return stopped


def test_ctrl_c_keeps_what_was_read_and_resume_goes_on(
    write: Run, stored: Callable[[], Memory], place: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "long.txt").write_text((ANA + " " + ILSE + "\n\n") * 3, encoding="utf-8")
    files = ["ana.txt", "long.txt", "ilse.md"]
    total = len(ANA) + len(ILSE) + len((place / "long.txt").read_text()) + 3 * EMPTY_LINE
    with monkeypatch.context() as patch:
        patch.setattr(source_texts, "write_texts", interrupted_after(len(ANA) + 40))
        code, out, err = write(*files, "--at", "1970-01-01T00:00:01Z")
    assert (code, out) == (130, "")
    found = re.fullmatch(
        r"mplus: interrupted after ([\d,]+) of ([\d,]+) tokens of 3 texts; what was read is stored, "
        r"the same command with --resume goes on\n",
        err,
    )
    assert found is not None
    half = stored()
    assert int(found[1]) == half.tokens_read < int(found[2].replace(",", "")) == total
    assert [info.name for info in half.sources()] == ["ana.txt", "long.txt"]
    assert write(*files)[0] == 2
    assert "'long.txt' is in the memory up to token" in write("long.txt")[2]
    assert write("ana.txt", "long.txt", "--resume", "--at", "1970-01-01T00:00:01Z")[0] == 0
    assert sources(stored())["long.txt"] == (place / "long.txt").read_text()


def test_an_interrupted_and_resumed_memory_is_the_one_never_interrupted(
    write: Run, stored: Callable[[], Memory], model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(source_texts, "write_texts", interrupted_after(40))
        assert write("ana.txt", "ilse.md", "--at", "1970-01-01T00:00:01Z")[0] == 130
    assert write("ana.txt", "ilse.md", "--resume", "--at", "1970-01-01T00:00:01Z")[0] == 0
    whole = model.new_memory()
    for name, text in (("ana.txt", ANA), ("ilse.md", ILSE)):
        whole.write(text, name, at=1.0)
    resumed = stored()
    assert [resumed.text(name) for name in ("ana.txt", "ilse.md")] == [ANA, ILSE]
    assert resumed.ledger.chunks == whole.ledger.chunks


CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has its children ignore it
from mplus.cli import main, write
from mplus.memory import source_texts
from tests.tiny import text_model

model, write_texts = text_model(), source_texts.write_texts
write.open_model = lambda name, **_: model

def said(*given, progress, **named):
    def show(done):
        progress(done)
        print(done, flush=True)
        if done > 600:  # far behind the signal, unless that is late
            time.sleep(60)
    return write_texts(*given, progress=show, **named)

source_texts.write_texts = said
sys.exit(main(["write", "./m", *sys.argv[1:]]))
"""


def test_a_signal_in_the_middle_of_a_pass_leaves_a_memory_that_can_be_gone_on_with(
    place: Path, stored: Callable[[], Memory], write: Run, model: MPlusModel
) -> None:
    text = (ANA + " " + ILSE + "\n\n") * 5
    (place / "long.txt").write_text(text, encoding="utf-8")
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, "long.txt", "--at", "1970-01-01T00:00:01Z"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        for _ in range(5):
            assert child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "what was read is stored, the same command with --resume goes on" in err
    assert "Traceback" not in err
    half = stored()
    assert 0 < half.tokens_read < len(text)
    assert text.startswith(half.text("long.txt"))
    assert write("long.txt", "--resume", "--at", "1970-01-01T00:00:01Z")[0] == 0
    whole = model.new_memory()
    whole.write(text, "long.txt", at=1.0)
    assert stored().ledger.chunks == whole.ledger.chunks


def test_a_long_write_is_stored_on_the_way(
    write: Run, stored: Callable[[], Memory], monkeypatch: pytest.MonkeyPatch, model: MPlusModel
) -> None:
    write_texts, seen = source_texts.write_texts, list[int]()

    def looked_at(*given: Any, progress: Callable[[int], None], **named: Any) -> int:
        def show(done: int) -> None:
            progress(done)
            seen.append(stored().tokens_read - done)

        return write_texts(*given, progress=show, **named)

    monkeypatch.setattr(source_texts, "write_texts", looked_at)
    monkeypatch.setattr(write_command, "SAVE_EVERY_S", -1.0)
    assert write("ana.txt", "ilse.md", "--at", "1970-01-01T00:00:01Z")[0] == 0
    assert set(seen) == {0}
    whole = model.new_memory()
    for name, text in (("ana.txt", ANA), ("ilse.md", ILSE)):
        whole.write(text, name, at=1.0)
    assert stored().ledger.chunks == whole.ledger.chunks


def test_ctrl_c_before_anything_was_read_stores_nothing(write: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*given: Any, **named: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(source_texts, "write_texts", stop)
    code, _, err = write("ana.txt")
    assert (code, err) == (130, "mplus: interrupted before anything was read; nothing was stored\n")
    assert not (place / "m").exists()


# --- flags and JSON


@pytest.mark.parametrize("other", ["--replace", "--resume"])
def test_flags_that_contradict_are_told(write: Run, place: Path, other: str) -> None:
    code, _, err = write("ana.txt", "--again", other)
    assert code == 2
    assert f"--again writes behind what is there, {other} does not; give one of them" in err
    assert not (place / "m").exists()


def test_json_says_what_was_done_with_each(write: Run, place: Path) -> None:
    write("ana.txt")
    (place / "none.txt").touch()
    code, out, _ = write("ana.txt", "ilse.md", "none.txt", "--json")
    facts = json.loads(out)
    assert code == 2
    assert [(one["source"], one["action"], one["tokens"]) for one in facts["sources"]] == [
        ("ana.txt", "skip", 0), ("ilse.md", "write", len(ILSE) + EMPTY_LINE),
    ]  # fmt: skip
    assert [(one["name"], one["mistake"]) for one in facts["skipped"]] == [("none.txt", True)]
    assert (facts["tokens"], facts["tokens_read"]) == (len(ILSE) + EMPTY_LINE, len(ANA) + len(ILSE) + 2 * EMPTY_LINE)
    assert facts["size_bytes"] > 0
