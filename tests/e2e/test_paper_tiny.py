"""The shipped model with the published rules: long-term memory holds facts that short-term memory has lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mplus.cli.app import app

pytestmark = pytest.mark.e2e


def test_facts_of_thousands_of_tokens_ago_are_recalled_with_long_term_memory_only(tmp_path: Path) -> None:
    asked = ["demo", "--model", "paper-tiny", "--tokens", "6000", "--questions", "12", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "retention.json").read_text(encoding="utf-8"))
    far = result["distances"].index(4000)
    right = {name: system["right"][far] for name, system in result["systems"].items()}
    assert result["systems"]["mplus"]["asked"][far] == 12
    assert right["mplus"] >= 10 and right["memoryllm"] <= 1 and right["window"] <= 1
