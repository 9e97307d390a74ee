"""`mplus reencode`: a memory written again for another model, which opens it from then on. Goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.changing import PATIENCE_S
from mplus.cli.model import open_model
from mplus.cli.options import AsJson, Device, DType, HomeDirectory, MemoryDirectory, NumberType, Verbose, a_memory, place_of
from mplus.errors import InputError
from mplus.memory.home import Home, reencoding_place
from mplus.memory.manifest import ENCRYPTED, OLD_FORMATS, read_manifest

if TYPE_CHECKING:
    from mplus.memory.reencode import Decode
    from mplus.model import MPlusModel


def reencode(
    memory: MemoryDirectory,
    model: Annotated[str, typer.Option("--model", metavar="NEW", help="The model to write it for.", show_default=False)],
    old_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="OLD",
            help="The model that wrote it: its tokenizer is needed where the new model has another one.",
            show_default="the name in the memory",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="NAME",
            parser=a_memory,
            callback=place_of,
            help="A new name or directory for the result; MEMORY stays as it is.",
            show_default="it replaces MEMORY",
        ),
    ] = None,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Write a memory again for another model: all sources, in their old order and with their old times.

    It takes its place at the end and in one step. A run that was stopped goes on when it is run again.
    """
    manifest = read_manifest(memory)
    _check_has_text(manifest, Home(home).label(memory))
    opened = open_model(model, dtype=dtype, device=device)
    from mplus.memory.reencode import needs_text, reencode

    decode = (
        _decode(open_model(old_model or str(manifest["model"]["name"]), dtype=dtype)) if needs_text(manifest, opened) else None
    )
    if reencoding_place(to or memory).exists():
        terminal.note(f"going on with a run that was stopped, in {reencoding_place(to or memory)}")
    with terminal.stage_bar({"write": ("writing again", "tokens")}) as bar:
        report = reencode(
            memory, opened, to=to, decode=decode, progress=lambda done, all_: bar("write", done, all_), patience_s=PATIENCE_S
        )
    name = Home(home).label(to or memory)
    terminal.mark_stored(name)
    if as_json:
        terminal.say_json({"memory": name, "model": opened.name, "before": manifest["model"]["name"], **report.to_json()})
    else:
        rows = {
            "memory": name,
            "model": f"{opened.name}, before {manifest['model']['name']}",
            "written again": f"{report.tokens:,} tokens of {report.sources:,} sources, from {'token ids' if report.from_ids else 'text'}",
        }
        terminal.results().print(terminal.facts(rows))


def _check_has_text(manifest: Mapping[str, Any], name: str) -> None:
    """Refuse what cannot be written again before a model is opened."""
    if manifest["format"] == ENCRYPTED:
        raise InputError(
            f"{name} is encrypted, and only its own model reads its texts; write its sources again with the new model"
        )
    if manifest["format"] in OLD_FORMATS:
        raise InputError(
            f"{name} has the older format {manifest['format']}, which did not keep what it read; write its sources again with the new model"
        )


def _decode(model: MPlusModel) -> Decode:
    """Token ids to text, with the tokenizer of the model that wrote a memory."""
    return lambda ids: str(model.tokenizer.decode(ids, clean_up_tokenization_spaces=False))
