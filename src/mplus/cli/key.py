"""`mplus key`: the key of this user's home, made or replaced. Opens no memory."""

from __future__ import annotations

from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, Verbose


def key(
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the home key, and wrap all data keys anew.")] = False,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Make the key that memories are encrypted with; it lies in $MPLUS_KEYS, else in `keys` of the home.

    Keep a copy of home-key.json in a safe place: without it no encrypted memory opens. `mplus encrypt` encrypts a memory.
    """
    from mplus.memory.keys import Keys, default_directory

    directory = default_directory()
    if rotate:
        wrapped = Keys(directory).rotate()
        done = f"replaced the home key in {directory}; {wrapped:,} data keys are wrapped anew"
    else:
        Keys.make(directory)
        wrapped, done = 0, f"made a home key in {directory}; keep a copy of it in a safe place"
    terminal.mark_stored(directory)
    if as_json:
        terminal.say_json({"keys": str(directory), "rotated": rotate, "data_keys": wrapped})
    else:
        terminal.say(done)
