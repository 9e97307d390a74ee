"""`mplus encrypt`: a memory stored encrypted from then on, each source under a key of its own."""

from __future__ import annotations

from mplus.cli import terminal
from mplus.cli.changing import changed
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, AsJson, Device, DType, HomeDirectory, MemoryDirectory, ModelName, NumberType, Verbose
from mplus.memory.home import Home
from mplus.memory.stored import read_stored


def encrypt(
    memory: MemoryDirectory,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Encrypt a memory with keys that `mplus key` made a home for; all commands go on with it as before.

    Forgetting a source destroys its key: then no copy of the memory, however old, can be read as far as that source goes.
    """
    from mplus.memory.keys import Keys, default_directory

    read_stored(memory)
    keys = Keys(default_directory())
    opened = open_model(model, dtype=dtype, device=device)
    with changed(memory, opened) as held:
        held.keys = keys
    name, stored = Home(home).label(memory), read_stored(memory)
    if as_json:
        terminal.say_json({"memory": name, "keys": str(keys.directory), "sources": len(stored.sources), "format": stored.format})
    else:
        terminal.say(f"encrypted {name}: {len(stored.sources):,} sources, their keys in {keys.directory}")
