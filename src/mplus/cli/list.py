"""`mplus list`: the memories of a home, from their manifests; no model is opened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, Verbose
from mplus.memory.home import Home
from mplus.memory.stored import StoredMemory


def list_(as_json: AsJson = False, home: HomeDirectory = None, verbose: Verbose = False) -> None:
    """Show the memories that have a name: what wrote them, how much they read, their size, when they changed."""
    place = Home(home)
    found = place.all()
    if as_json:
        terminal.say_json([_plain(place, one) for one in found])
        return
    if not found:
        terminal.note(f"there is no memory in {place.root} yet; write one with `mplus write NAME FILE`")
        return
    table = terminal.table("memory", "model", "read", "sources", "size", "changed", text_columns=(0, 1))
    for one in found:
        if isinstance(one, StoredMemory):
            table.add_row(
                one.path.name,
                one.model,
                f"{one.tokens_read + one.pending_tokens:,}",
                f"{len(one.sources):,}",
                f"{one.size_bytes / 1e6:,.1f} MB",
                datetime.fromtimestamp(one.changed_at).strftime("%Y-%m-%d %H:%M"),
            )
        else:
            table.add_row(one[0], "cannot be read", "", "", "", "")
            terminal.note(f"{one[0]}: {one[1]}")
    terminal.results().print(table)


def _plain(home: Home, one: StoredMemory | tuple[str, Exception]) -> dict[str, Any]:
    if isinstance(one, StoredMemory):
        return {"memory": one.path.name, **one.to_json(), "sources": len(one.sources)}
    return {"memory": one[0], "path": str(home.memories / one[0]), "error": str(one[1])}
