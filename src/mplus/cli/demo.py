"""`mplus demo`: read a long text, ask about facts near and far back, show and store how many answers were right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.cli.options import DEFAULT_NAME, ModelName, Verbose


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where retention.json and retention.png go.")] = Path("demo"),
    model: ModelName = DEFAULT_NAME,
    verbose: Verbose = False,
) -> None:
    """Let the model read 160,000 tokens and answer from memory, beside MemoryLLM and the plain context window."""
    raise NotImplementedError
