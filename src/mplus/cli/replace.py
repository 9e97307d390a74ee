"""`mplus replace`: a source of a memory, written anew. The text is read and checked before a model is opened."""

from __future__ import annotations

from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.changing import changed
from mplus.cli.documents import read_one
from mplus.cli.forget import show_forgotten
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    AsJson,
    Device,
    DType,
    HomeDirectory,
    MemoryDirectory,
    ModelName,
    NumberType,
    Verbose,
    source_names,
)
from mplus.memory.home import Home
from mplus.memory.selection import chosen
from mplus.memory.stored import read_stored


def replace(
    memory: MemoryDirectory,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", autocompletion=source_names, help="As `mplus sources` names it.", show_default=False),
    ],
    file: Annotated[str, typer.Argument(metavar="FILE", help="The new text; '-' is stdin.", show_default=False)],
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Forget a source and write it anew, in one step: afterwards the memory holds the new text, or all is as it was."""
    name = Home(home).label(memory)
    stored = read_stored(memory)
    stored.check_names()
    (known,) = chosen(stored.sources, source, None)
    text = read_one(file)
    opened = open_model(model, dtype=dtype, device=device)
    with changed(memory, opened) as held, terminal.waiting(f"replacing {known}"):
        report = held.replace(known, text)
        tokens = next(one.tokens for one in held.sources() if one.name == known)
    done = {"memory": name, **report.to_json(), "tokens_now": tokens}
    if as_json:
        terminal.say_json(done)
    else:
        show_forgotten(done)
