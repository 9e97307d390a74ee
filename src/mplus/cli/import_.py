"""`mplus import`: a memory out of one file. Opens no model."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.export import SUFFIX
from mplus.cli.options import AsJson, HomeDirectory, Verbose, a_memory, a_place
from mplus.memory.home import Home
from mplus.memory.portable import import_memory


def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            parser=a_place,
            help="What `mplus export` made of a memory; also at an address, s3://bucket/name.",
            show_default=False,
        ),
    ],
    new: Annotated[
        str | None,
        typer.Argument(
            metavar="[NEW]", parser=a_memory, help="A new name, or the path of a new directory.", show_default="the file's name"
        ),
    ] = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Take in a memory that was exported to one file; every byte of it is checked."""
    place = Home(home)
    target = place.resolve(new) if new else place.path(PurePosixPath(Path(file).name).name.removesuffix(SUFFIX))
    with terminal.stage_bar({"read": (f"reading {file}", "bytes")}) as bar:
        size_bytes = import_memory(file, target, progress=lambda done, total: bar("read", done, total))
    terminal.mark_stored(place.label(target))
    if as_json:
        terminal.say_json({"memory": place.label(target), "path": str(target), "size_bytes": size_bytes})
    else:
        terminal.say(place.label(target))
