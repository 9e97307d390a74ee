"""`mplus compact`: the bytes of what was forgotten off the disk. Opens no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mplus.cli import terminal
from mplus.cli.changing import PATIENCE_S
from mplus.cli.options import AsJson, HomeDirectory, MemoryDirectory, Verbose
from mplus.memory.home import Home

if TYPE_CHECKING:
    from mplus.memory.compact import CompactReport


def compact(memory: MemoryDirectory, as_json: AsJson = False, home: HomeDirectory = None, verbose: Verbose = False) -> None:
    """Write a memory's files again without what was forgotten or evicted, so that no byte of it is left in them."""
    name = Home(home).label(memory)
    report = compacted(memory)
    if as_json:
        terminal.say_json({"memory": name, **report.to_json()})
        return
    rows = {
        "memory": name,
        "removed": f"{report.rows_removed:,} memory tokens that nobody needed",
        "files": f"{report.rewritten:,} of {report.segments:,} segments written again",
        "size": f"{report.bytes_before / 1e6:,.1f} MB before, {report.bytes_after / 1e6:,.1f} MB now",
    }
    terminal.results().print(terminal.facts(rows))


def compacted(directory: Path) -> CompactReport:
    """Compact a stored memory, and say what that did."""
    from mplus.memory.compact import compact

    with terminal.waiting("compacting"):
        report = compact(directory, timeout_s=PATIENCE_S)
    terminal.mark_stored(directory)
    return report
