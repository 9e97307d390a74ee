"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.checkpoints.base import DEFAULT_NAME
from mplus.cli import terminal

__all__ = ["DEFAULT_NAME", "MemoryDirectory", "ModelName", "Verbose"]


def _start_logging(value: bool) -> bool:
    if value:
        terminal.start_logging()
    return value


Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_start_logging, help="Show what the library decides, on stderr."),
]
ModelName = Annotated[
    str, typer.Option("--model", metavar="NAME", help="A known name, a model directory, or a hub id like 'org/model'.")
]
MemoryDirectory = Annotated[Path, typer.Argument(metavar="MEMORY", help="The directory of a stored memory.", show_default=False)]
