"""`mplus delete`: a whole memory away, after a question. Opens no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, MemoryDirectory, Verbose
from mplus.errors import InputError, SnapshotError
from mplus.memory.home import Home
from mplus.memory.stored import read_stored


def delete(
    memory: MemoryDirectory,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Remove a memory and all its files; asks before, unless told not to."""
    place = Home(home)
    name = place.label(memory)
    if not yes and not terminal.confirmed(f"delete the memory {name} ({_size(memory)})?"):
        raise InputError(f"{name} is not deleted: nobody said yes; answer the question at a terminal, or give --yes")
    place.delete(memory)
    terminal.mark_stored(f"the deletion of {name}")
    if as_json:
        terminal.say_json({"memory": name, "path": str(memory), "deleted": True})
    else:
        terminal.say(f"deleted {name}")


def _size(memory: Path) -> str:
    try:
        stored = read_stored(memory)
    except SnapshotError:
        return "it cannot be read"
    return f"{stored.tokens_read + stored.pending_tokens:,} tokens of {len(stored.sources):,} sources"
