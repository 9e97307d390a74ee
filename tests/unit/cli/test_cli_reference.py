"""The command line reference says what the commands say."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs"


def test_the_command_line_reference_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "make_cli.py"))["page"]()
    stored = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert stored == made, "the help of a command has changed; run `python docs/make_cli.py`"
