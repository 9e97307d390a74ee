"""The commands as a user types them, on the real base model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import text_model

from mplus.cli import main

pytestmark = pytest.mark.e2e


def mplus(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mplus.cli", *arguments], capture_output=True, text=True, check=False, timeout=500
    )


def test_written_text_is_answered_about_in_another_process(
    base_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text(
        "The harbour master of Brightmoor is Oliver Quade. He keeps a parrot at home. The lighthouse was built in 1874, and its "
        "lamp was lit for the first time in spring. The gate code of the old mill is 5527.\n",
        encoding="utf-8",
    )
    memory = tmp_path / "memory"
    wrote = mplus("write", str(memory), str(text))
    assert (wrote.returncode, wrote.stderr) == (0, "")  # no library warns either
    told = mplus("info", str(memory), "--json")
    assert told.returncode == 0, told.stderr
    assert str(text) in told.stdout or "notes.txt" in told.stdout
    assert main(["ask", str(memory), "What is the gate code of the old mill?", "--max-new-tokens", "10"]) == 0
    assert "5527" in capsys.readouterr().out


@pytest.mark.long
def test_demo_of_the_default_model_stores_its_numbers_and_its_picture(base_name: str, tmp_path: Path) -> None:
    ran = mplus("demo", "--out", str(tmp_path / "demo"), "--tokens", "2300", "--questions", "1")
    assert ran.returncode == 0, ran.stderr
    check_demo(tmp_path / "demo", ran.stdout)


def test_demo_of_a_tiny_model_stores_its_numbers_and_its_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mplus.cli.demo.open_model", lambda name, **_: text_model(positions=6000, ltm_capacity=9000))
    assert main(["demo", "--out", str(tmp_path / "demo"), "--tokens", "2300", "--questions", "1"]) == 0
    check_demo(tmp_path / "demo", capsys.readouterr().out)


def check_demo(out: Path, printed: str) -> None:
    """What a demo of 2300 tokens stores and shows, whatever was answered."""
    result = json.loads((out / "retention.json").read_text(encoding="utf-8"))
    assert result["schema"] == 1
    assert result["tokens_read"] >= 2300
    assert set(result["systems"]) >= {"mplus", "memoryllm", "window"}
    for system in result["systems"].values():
        assert len(system["accuracy"]) == len(system["asked"]) == len(result["distances"])
        assert all(0 <= share <= 1 for share in system["accuracy"])
    assert (out / "retention.png").stat().st_size > 10_000
    assert "tokens back" in printed


def test_memory_of_another_model_is_refused_in_one_line(
    base_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = text_model().new_memory()
    memory.write("A memory that the default model cannot read, since another one wrote it in another way.")
    memory.save(tmp_path / "foreign")
    assert main(["ask", str(tmp_path / "foreign"), "Who wrote it?"]) == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1
    assert "written by" in told
