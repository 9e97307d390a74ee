"""Options that several commands share."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mplus.checkpoints.base_models.base import DEFAULT_NAME
from mplus.cli import terminal
from mplus.runtime.input_file import expanded

__all__ = [
    "DEFAULT_NAME",
    "LARGEST_SEED",
    "MOST_TOKENS",
    "DType",
    "Device",
    "MemoryDirectory",
    "ModelName",
    "NumberType",
    "Verbose",
    "a_path",
    "example",
]

MOST_TOKENS = 10_000_000
"""Of one text, answer or size that is typed."""
LARGEST_SEED = 2**63 - 1


class NumberType(StrEnum):
    """In which weights are opened."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def a_path(given: str | Path) -> Path:
    """A path as it is typed, with `~` replaced by the home directory; also a default, which is one already."""
    text = str(given)
    if not text.strip():
        raise typer.BadParameter("it is empty; expected a path")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise typer.BadParameter("it holds half a character; expected a path") from None
    if "\0" in text:
        raise typer.BadParameter("it holds a null character; expected a path")
    return expanded(text)


def example(command: str) -> str:
    """The last line of a command's help."""
    return f"Example: {command}"


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
MemoryDirectory = Annotated[
    Path, typer.Argument(metavar="MEMORY", parser=a_path, help="The directory of a stored memory.", show_default=False)
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1 ...", show_default="a GPU if there is one, else the CPU"),
]
DType = Annotated[NumberType, typer.Option("--dtype", help="Number type of the weights; auto: the faster one here.")]
