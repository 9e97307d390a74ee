"""Laws of confidences on the command line: fitted by `mplus calibrate`, told and refused by `mplus ask` and `mplus chat`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mplus import MPlusModel
from mplus.cli import ask as ask_command
from mplus.cli import calibrate as calibrate_command
from mplus.cli import chat as chat_command
from mplus.cli import main
from mplus.settings.calibration import REFUSAL, Calibration
from tests.tiny import text_model
from tests.unit.cli.test_commands import mistake
from tests.unit.cli.test_life import home, printed, printed_json  # noqa: F401

QUESTION = "Where does Ana live?"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> MPlusModel:
    """A tiny model with a calibration, which every command opens."""
    model = text_model(read_order="score", positions=2048)
    model.checkpoint.calibration = Calibration(bias=-0.5, weights={"match": 1.0})
    for command in (ask_command, chat_command, calibrate_command):
        monkeypatch.setattr(command, "open_model", lambda name, **_: model)
    return model


@pytest.fixture
def notes(home: Any, model: MPlusModel) -> Path:  # noqa: F811
    memory = model.new_memory(seed=0)
    memory.write("Ana Lopes lives in Seville.", source="ana.txt")
    return Path(home.create("notes", memory))


def ask(*options: str) -> tuple[str, ...]:
    return ("ask", "notes", QUESTION, "--max-new-tokens", "4", *options)


def test_ask_refuses_below_the_minimum(capsys: pytest.CaptureFixture[str], notes: Path) -> None:
    assert printed(capsys, *ask("--min-confidence", "1")) == REFUSAL + "\n"
    assert printed(capsys, *ask("--min-confidence", "0")) == printed(capsys, *ask())
    found = printed_json(capsys, *ask("--min-confidence", "0.01"))
    assert set(found) == {"memory", "answer", "confidence"} and 0 < found["confidence"] < 1
    assert printed_json(capsys, *ask("--trace"))["confidence"] == found["confidence"]


@pytest.mark.parametrize("value", ["2", "-0.5", "nan", "half"])
def test_a_minimum_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], notes: Path, value: str) -> None:
    assert "min" in mistake(capsys, *ask("--min-confidence", value))


def test_without_calibration_one_sentence_says_how_to_fit_one(
    capsys: pytest.CaptureFixture[str], notes: Path, model: MPlusModel
) -> None:
    model.checkpoint.calibration = None
    assert "fit one with `mplus calibrate MODEL --out DIR`" in mistake(capsys, *ask("--min-confidence", "0.5"))
    assert "fit one with" in mistake(capsys, "chat", "notes", "--min-confidence", "0.5")


def test_chat_refuses_and_remembers_the_question_alone(
    capsys: pytest.CaptureFixture[str], notes: Path, model: MPlusModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(QUESTION.encode()), isatty=lambda: False))
    assert main(["chat", "notes", "--min-confidence", "1", "--json", "--source", "talk"]) == 0
    turn = json.loads(capsys.readouterr().out)
    assert turn["answer"] == REFUSAL and 0 < turn["confidence"] < 1 and turn["source"] == "talk"


@pytest.mark.slow
def test_calibrate_stores_a_model_that_tells_confidences(
    capsys: pytest.CaptureFixture[str], model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.checkpoint.calibration = None
    out = tmp_path / "fitted"
    monkeypatch.setattr(
        "mplus.evaluation.scoring.text_match.contains_value", lambda answer, value: True
    )  # a tiny model knows nothing
    assert main(["calibrate", "tiny", "--out", str(out), "--questions", "12", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((out / "refusals.json").read_text())
    assert found["settings"]["questions"] == 12 and 0 <= found["area"] <= 1
    assert (out / "refusals.png").exists()
    stored = json.loads((out / "delta" / "mplus.json").read_text())["calibration"]
    assert model.calibration == Calibration.of_json(stored)
    assert "is there already" in mistake(capsys, "calibrate", "tiny", "--out", str(out))
