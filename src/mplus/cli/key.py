"""`mplus key`: the home key, which wraps the keys of encrypted memories. Opens no model."""

from __future__ import annotations

from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, Verbose


def key(
    rotate: Annotated[bool, typer.Option("--rotate", help="Replace the key by a new one; what is encrypted stays as it is.")] = False,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Make the key that memories of this home are encrypted with (`mplus encrypt`), in $MPLUS_KEYS, else HOME/keys.

    Keep it apart from backups of memories: who has both can read them, and who loses it has lost them.
    """
    from mplus.memory.keys import Keys, default_directory

    directory = default_directory()
    wrapped = Keys(directory).rotate() if rotate else len(Keys.make(directory).memories())
    terminal.mark_stored(f"the key in {directory}")
    if as_json:
        terminal.say_json({"keys": str(directory), "rotated": rotate, "wrapped": wrapped})
    else:
        terminal.say(f"replaced the key in {directory}; {wrapped:,} keys of sources are wrapped anew" if rotate else directory)
