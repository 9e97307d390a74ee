"""`mplus forget`: sources out of a memory. What is named is checked before a model is opened."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.changing import changed
from mplus.cli.compact import compacted
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
    a_time,
    source_names,
)
from mplus.cli.sources import source_table
from mplus.memory.home import Home
from mplus.memory.selection import Where, chosen
from mplus.memory.stored import StoredMemory, read_stored


def forget(
    memory: MemoryDirectory,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE...]", autocompletion=source_names, help="As `mplus sources` names them.", show_default=False
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="PATTERN", help="Sources whose names match, e.g. 'notes/*'.", show_default=False),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option(
            "--before", metavar="TIME", parser=a_time, help="Sources last written before this time.", show_default=False
        ),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since", metavar="TIME", parser=a_time, help="Sources first written at or after this time.", show_default=False
        ),
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Compact too: their bytes are gone from the files at once.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be forgotten; change nothing.")] = False,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Forget sources: the memory is afterwards the one that never read them, and answers from all others as before.

    Sources are named, or chosen by --pattern, --before and --since (all that are given must hold). A time is a day or a moment of
    local time, e.g. 2026-11-28 or 2026-11-28T09:30.
    """
    name, stored = Home(home).label(memory), read_stored(memory)
    stored.check_names()
    where = None if (pattern, before, since) == (None, None, None) else Where(pattern=pattern, before=before, since=since)
    names = chosen(stored.sources, sources or None, where)
    if dry_run:
        _show_plan(name, stored, names, as_json)
        return
    opened = open_model(model, dtype=dtype, device=device)
    with changed(memory, opened) as held, terminal.waiting(f"forgetting {len(names):,} sources"):
        report = held.forget(names)
    done = {"memory": name, **report.to_json(), **({"compacted": compacted(memory).to_json()} if now else {})}
    if as_json:
        terminal.say_json(done)
    else:
        show_forgotten(done)


def _show_plan(name: str, stored: StoredMemory, names: list[str], as_json: bool) -> None:
    picked = [one for one in stored.sources if one.name in names]
    if as_json:
        plain = [one for one in stored.to_json()["sources"] if one["name"] in names]
        terminal.say_json({"memory": name, "dry_run": True, "sources": plain, "tokens": sum(one.tokens for one in picked)})
        return
    terminal.results().print(source_table(picked, places_known=stored.places_known))
    terminal.note(f"{len(picked):,} of {len(stored.sources):,} sources would be forgotten; nothing was changed")


def show_forgotten(done: dict[str, Any]) -> None:
    """Print what a forget or a replace took away."""
    rows = {
        "memory": done["memory"],
        "forgotten": ", ".join(name or "(no name)" for name in done["sources"]),
        "text": f"{done['tokens']:,} tokens",
        "memory tokens": f"{done['short_term']:,} short-term, {done['long_term']:,} long-term, {done['evicted']:,} evicted",
        "exact": "yes, as if it was never read" if done["exact"] else f"no: {done['reason']}",
    }
    if "tokens_now" in done:
        rows["written"] = f"{done['tokens_now']:,} tokens of the new text"
    if done["rows_reencoded"]:
        rows["back"] = f"{done['rows_reencoded']:,} memory tokens of other sources, which age had evicted"
    if compact := done.get("compacted"):
        rows["compacted"] = f"{compact['bytes_before'] / 1e6:,.1f} MB before, {compact['bytes_after'] / 1e6:,.1f} MB now"
    if done["shared_with"]:
        rows["also held by"] = ", ".join(done["shared_with"])
    terminal.results().print(terminal.facts(rows))
