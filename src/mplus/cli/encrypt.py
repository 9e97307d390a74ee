"""`mplus encrypt`: a stored memory, from now on encrypted. The keys are there before a model is opened."""

from __future__ import annotations

from mplus.cli import terminal
from mplus.cli.changing import changed
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
)
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
    """Encrypt a memory: every source under a key of its own, which is destroyed when the source is forgotten.

    Make the home key first (`mplus key`). All commands go on as before while the keys are there. Copies that were made before stay as
    they are, and so may what the disk keeps of the old files.
    """
    from mplus.memory.keys import Keys, default_directory

    name = Home(home).label(memory)
    read_stored(memory)
    keys = Keys(default_directory())
    opened = open_model(model, dtype=dtype, device=device)
    with changed(memory, opened) as held, terminal.waiting(f"encrypting {name}"):
        held.keys = keys
    stored = read_stored(memory)
    if as_json:
        terminal.say_json({"memory": name, "sources": len(stored.sources), "keys": str(keys.directory)})
    else:
        terminal.say(f"{name} is encrypted: {len(stored.sources):,} sources, keys in {keys.directory}")
