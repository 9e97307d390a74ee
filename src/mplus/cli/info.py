"""`mplus info`: what a stored memory holds, from its manifest; no model is opened unless one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import AsJson, HomeDirectory, MemoryDirectory, Verbose, a_path
from mplus.cli.sources import source_table
from mplus.memory.home import Home
from mplus.memory.stored import StoredMemory, read_stored


def info(
    memory: MemoryDirectory,
    as_json: AsJson = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Also check that this model can read the memory.", show_default="no check"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            parser=a_path,
            help="Also draw occupancy, ages and sources (.png, .svg, .pdf).",
            show_default=False,
        ),
    ] = None,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Show what is in a memory: its model, tokens, sources and sizes."""
    stored, name = read_stored(memory), Home(home).label(memory)
    if plot is not None:
        from mplus.cli.memory_picture import check_picture, draw_memory

        check_picture(plot)
        draw_memory(stored, name, plot)
        terminal.mark_stored(plot)
    if model is not None:
        from mplus.memory.memory import Memory

        Memory.load(memory, open_model(model))
    if as_json:
        further = {**({} if model is None else {"readable_by": model}), **({} if plot is None else {"plot": str(plot)})}
        terminal.say_json({"memory": name, **stored.to_json(), **further})
    else:
        _show(name, stored, model)
        if plot is not None:
            terminal.say("", plot)


def _show(name: str, stored: StoredMemory, model: str | None) -> None:
    rows = {
        "memory": name,
        "model": f"{stored.model} ({stored.fingerprint[:12]})",
        "format": f"{stored.format}, {stored.memory_format}, written by mplus {stored.mplus}",
        "read": f"{stored.tokens_read:,} tokens in {stored.chunks:,} chunks",
        "short-term": f"{stored.stm_tokens:,} of {stored.stm_capacity:,} tokens",
        "long-term": f"{stored.ltm_tokens:,} of {stored.ltm_capacity:,} tokens",
        "waiting": f"{stored.pending_tokens:,} tokens, for more text",
        "size": f"{stored.size_bytes / 1e6:,.1f} MB",
    }
    if model is not None:
        rows["readable by"] = model
    terminal.results().print(terminal.facts(rows))
    if stored.sources:
        terminal.results().print()
        terminal.results().print(source_table(stored.sources, places_known=stored.places_known))
