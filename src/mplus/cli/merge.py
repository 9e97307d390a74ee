"""`mplus merge`: the sources of other memories into one, by time. The others stay as they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.changing import changed
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    AsJson,
    Device,
    DType,
    HomeDirectory,
    MemoryDirectories,
    MemoryDirectory,
    ModelName,
    NumberType,
    Verbose,
)
from mplus.errors import InputError
from mplus.memory.home import Home
from mplus.memory.stored import read_stored


def merge(
    memory: MemoryDirectory,
    others: MemoryDirectories,
    prefix: Annotated[
        str,
        typer.Option("--prefix", metavar="TEXT", help="Put before the names of their sources.", show_default=False),
    ] = "",
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Take in the sources of other memories: afterwards MEMORY is the one that read them all, in the order of time."""
    place = Home(home)
    for other in others:
        if other.samefile(memory):
            raise InputError(f"{place.label(other)} cannot be merged with itself; name another memory")
        read_stored(other)
    read_stored(memory)
    opened = open_model(model, dtype=dtype, device=device)
    from mplus.memory.memory import Memory

    merged: list[dict[str, Any]] = []
    with changed(memory, opened) as held, terminal.waiting("merging") as label:
        for other in others:
            label(f"merging {place.label(other)}")
            report = held.merge(Memory.load(other, opened), prefix=prefix)
            merged.append({"other": place.label(other), **report.to_json()})
    if as_json:
        terminal.say_json({"memory": place.label(memory), "merged": merged})
        return
    table = terminal.table("merged", "sources", "tokens", "held already")
    for one in merged:
        table.add_row(one["other"], f"{len(one['sources']):,}", f"{one['tokens']:,}", f"{one['duplicates']:,} chunks")
    terminal.results().print(table)
