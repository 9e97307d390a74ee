"""Laws of `mplus ask --trace`: the passages as a table, as JSON and as a picture; the answer is the same with and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from mplus import MPlusModel, Trace
from mplus.cli import main, terminal
from tests.unit.cli.test_commands import mistake
from tests.unit.cli.test_life import home, notes, printed, printed_json  # noqa: F401

pytestmark = pytest.mark.slow
ASK = ("ask", "notes", "Where does Ana live?", "--max-new-tokens", "4")


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch, notes: Path, text_model: MPlusModel) -> None:  # noqa: F811
    """The memory called notes is there, and the tiny model is the one that is opened."""
    monkeypatch.setattr("mplus.cli.ask.open_model", lambda name: text_model)


def test_without_a_wish_for_more_the_answer_is_all(capsys: pytest.CaptureFixture[str]) -> None:
    answer = printed(capsys, *ASK)
    assert "Passages" not in answer
    found = printed_json(capsys, *ASK)
    assert found["memory"] == "notes" and set(found) == {"memory", "answer"}
    assert terminal.shown(found["answer"]) == answer.removesuffix("\n")


def test_trace_prints_the_answer_and_then_the_passages(capsys: pytest.CaptureFixture[str]) -> None:
    answer = printed(capsys, *ASK)
    traced = printed(capsys, *ASK, "--trace")
    assert traced.startswith(answer) and "Passages read" in traced and "letters/oliver.txt" in traced
    assert "attention" not in traced
    assert "of all attention" in printed(capsys, *ASK, "--attention")


def test_json_has_the_whole_trace(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed_json(capsys, *ASK, "--trace", "--attention")
    trace = Trace.from_json(found["trace"])
    assert {passage.source for passage in trace.passages} == {"ana.txt", "letters/oliver.txt"}
    assert all(passage.attention for passage in trace.passages)
    texts = {
        "ana.txt": "Ana Lopes lives in Seville and looks after the old lighthouse there.",
        "letters/oliver.txt": "Oliver Quade is the harbour master of Brightmoor, and keeps a parrot.",
    }
    for passage in trace.passages:
        assert passage.text and passage.text.strip() in texts[passage.source or ""]


def test_only_what_lies_within_a_scope_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed_json(capsys, *ASK, "--trace", "--sources", "letters/*", "--after", "2020-01-01", "--rounds", "2")
    assert {passage.source for passage in Trace.from_json(found["trace"]).passages} == {"letters/oliver.txt"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--sources", "lettres/*"), "no source 'lettres/*' in this memory"),
        (("--before", "2020-01-01"), "no source of 2 was written in that span of time"),
        (("--before", "soon"), "'soon' is no time; expected a day or a moment"),
        (("--before", "2026-01-01", "--after", "2026-01-02"), "nothing lies before"),
    ],
)
def test_a_scope_in_which_nothing_lies_is_refused_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], problem: str
) -> None:
    monkeypatch.setattr("mplus.cli.ask.open_model", lambda name: pytest.fail("the model was opened"))
    assert problem in mistake(capsys, *ASK, *options)


def test_plot_stores_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "trace.png"
    picture.write_bytes(b"an earlier one")
    assert printed(capsys, *ASK, "--plot", str(picture)) == printed(capsys, *ASK)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.glob("*.png")] == ["trace.png"]


@pytest.mark.parametrize(("file", "problem"), [(".", "is a directory"), ("nowhere/trace.png", "there is no directory nowhere")])
def test_a_picture_that_cannot_be_stored_is_refused_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str, problem: str
) -> None:
    monkeypatch.setattr("mplus.cli.ask.open_model", lambda name: pytest.fail("the model was opened"))
    assert problem in mistake(capsys, *ASK, "--plot", file)


def test_show_retrieved_is_one_line_of_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASK, "--show-retrieved"]) == 0
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("retrieved ") and "short-term memory" in told
