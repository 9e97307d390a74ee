"""`mplus fork`: a copy of a memory to go on with elsewhere. Opens no model; unchanging data is shared on the disk."""

from __future__ import annotations

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, MemoryDirectory, NewMemory, Verbose
from mplus.memory.home import Home


def fork(
    memory: MemoryDirectory,
    new: NewMemory,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Copy a memory; what is written, forgotten or replaced in one of the two afterwards leaves the other as it is."""
    place = Home(home)
    target = place.fork(memory, new)
    terminal.mark_stored(place.label(target))
    if as_json:
        terminal.say_json({"memory": place.label(memory), "new": place.label(target), "path": str(target)})
    else:
        terminal.say(f"forked {place.label(memory)} to {place.label(target)}")
