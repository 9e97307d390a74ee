"""`mplus export`: a memory as one file, or a model in the form of the published checkpoints; which of them, what is given decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mplus.checkpoints.base_models.base import BASES
from mplus.cli import terminal
from mplus.cli.model import ASSETS, open_model
from mplus.cli.options import AsJson, DType, HomeDirectory, NumberType, Verbose, a_memory, a_place, memory_names
from mplus.errors import InputError
from mplus.memory.file_names import MANIFEST
from mplus.memory.home import Home
from mplus.memory.portable import export_memory
from mplus.runtime.input_file import is_address

SUFFIX = ".mplus"


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MEMORY|MODEL",
            parser=a_memory,
            autocompletion=memory_names,
            help="Name or path of a memory, or of a model.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE|DIR",
            parser=a_place,
            help="A file for a memory (or an address, s3://bucket/name), a new or empty directory for a model.",
            show_default=f"NAME{SUFFIX} for a memory",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    dtype: DType = NumberType.auto,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Store a memory as one file, which `mplus import` takes; or a model with the output tap in the published file layout."""
    place = Home(home)
    memory = _memory(place, what)
    stored = _export_model(what, out, dtype) if memory is None else _export_memory(memory, place.label(memory), out, force)
    target = stored.get("file") or stored["directory"]
    terminal.mark_stored(target)
    if as_json:
        terminal.say_json(stored)
    else:
        terminal.say(target)


def _memory(place: Home, what: str) -> Path | None:
    """The directory of the memory that is meant; None where it is a model.

    Raises:
        InputError: it may be either.
        SnapshotError: it is neither.
    """
    directory = place.resolve(what)
    if not (directory / MANIFEST).exists():
        may_be_model = what in BASES or (ASSETS / what).is_dir() or "/" in what or Path(what).exists()
        return None if may_be_model else place.existing(what)
    if what in BASES:
        raise InputError(
            f"{what!r} names a model and a memory; give the path of the memory, {directory}, or of the model's directory"
        )
    return directory


def _export_memory(directory: Path, name: str, out: str | None, force: bool) -> dict[str, Any]:
    target = out or f"{Path(name).name}{SUFFIX}"
    if not is_address(target) and not force and Path(target).exists():
        raise InputError(f"there is {target} already; name another file with --out, or replace it with --force")
    with terminal.stage_bar({"write": (f"writing {target}", "bytes")}) as bar:
        size_bytes = export_memory(directory, target, progress=lambda done, total: bar("write", done, total))
    return {"memory": name, "file": target, "size_bytes": size_bytes}


def _export_model(name: str, out: str | None, dtype: NumberType) -> dict[str, Any]:
    if out is None or is_address(out):
        raise InputError(f"a model is exported into a directory; name a new or empty one: mplus export {name} --out DIR")
    opened = open_model(name, dtype=dtype)
    with terminal.waiting(f"storing {out}"):
        from mplus.checkpoints.export import save_published

        save_published(opened.checkpoint, Path(out))
    return {"model": name, "directory": out}
