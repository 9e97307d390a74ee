"""`mplus sources`: what a memory was written from, and where it is now. Opens no model."""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, MemoryDirectory, Verbose
from mplus.cli.sheet import Sheet
from mplus.memory.ledger import SourceInfo
from mplus.memory.stored import read_stored


def sources(
    memory: MemoryDirectory,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="PATTERN", help="Only names that match, as file names do.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """List the sources of a memory: text tokens, when they were written, memory tokens in short-term and long-term memory.

    Evicted memory tokens left long-term memory by age. With --json also the first time, and the digest of a source's token ids.
    """
    stored = read_stored(memory)
    if not stored.names_known:
        terminal.note("the memory is encrypted and its keys are not here: numbers stand for names")
    chosen = [one for one in stored.sources if pattern is None or fnmatch.fnmatchcase(one.name, pattern)]
    if as_json:
        names = {one.name for one in chosen}
        terminal.say_json([one for one in stored.to_json()["sources"] if one["name"] in names])
        return
    if not chosen:
        terminal.note(
            "no text was written yet" if not stored.sources else f"none of {len(stored.sources):,} sources matches {pattern!r}"
        )
        return
    terminal.results().print(source_table(chosen, places_known=stored.places_known))


def source_table(sources: list[SourceInfo], *, places_known: bool) -> Sheet:
    """A row per source; what is not known is left out."""
    headings = ["source", "tokens", "last written", "short-term", "long-term", "evicted"]
    table = terminal.table(*(headings if places_known else headings[:2]))
    for one in sources:
        places = [f"{tokens:,}" for tokens in (one.short_term, one.long_term, one.evicted)]
        cells = [one.name or "(no name)", f"{one.tokens:,}", moment(one.last_at), *places]
        table.add_row(*(cells if places_known else cells[:2]))
    return table


def moment(at: float | None) -> str:
    """A time as people here read it; nothing where it is not known."""
    return "" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
