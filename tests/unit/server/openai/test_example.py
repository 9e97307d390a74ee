"""The example of OpenAI's client runs against a server (what a trained model answers: ``tests/e2e``)."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from tests.unit.server.openai.conftest import Server

EXAMPLE = Path(__file__).parents[4] / "examples" / "openai_client.py"


def test_the_example_runs(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", server.keys["ana"])
    monkeypatch.setattr(sys, "argv", ["example", f"{server.address}/v1"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert server.engine.model.name in printed
    assert printed.count("\nread: '") == 2
    assert "deleted: the conversation and its response are gone" in printed
