"""`mplus export`: a model in the form of the published checkpoints, for the reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import DType, NumberType, Verbose, a_path


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model directory or a known name.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", parser=a_path, help="A new or empty directory.", show_default=False)
    ],
    dtype: DType = NumberType.auto,
    verbose: Verbose = False,
) -> None:
    """Store base, adapters, retriever and initial memory in the published file layout (models with the output tap)."""
    opened = open_model(model, dtype=dtype)
    with terminal.waiting(f"storing {out}"):
        from mplus.checkpoints.export import save_published

        save_published(opened.checkpoint, out)
    terminal.mark_stored(out)
    terminal.say(out)
