"""`mplus verify`: every byte of a stored memory against what its manifest says. Opens no model."""

from __future__ import annotations

from mplus.cli import terminal
from mplus.cli.options import AsJson, HomeDirectory, MemoryDirectory, Verbose
from mplus.memory.home import Home

DAMAGED = 1
"""Exit code where something is wrong with the memory."""


def verify(memory: MemoryDirectory, as_json: AsJson = False, home: HomeDirectory = None, verbose: Verbose = False) -> int:
    """Check a memory byte by byte: sizes, digests, form, numbers, and whether its ledger adds up.

    Ends with exit code 1 where something is wrong, and says what; nothing is changed.
    """
    from mplus.memory.verify import verify

    name = Home(home).label(memory)
    with terminal.stage_bar({"read": (f"reading {name}", "bytes")}) as bar:
        report = verify(memory, progress=lambda done, total: bar("read", done, total))
    if as_json:
        terminal.say_json({"memory": name, **report.to_json()})
    else:
        for finding in report.findings:
            terminal.say(f"damaged: {finding}")
        for note in report.notes:
            terminal.say(f"note: {note}")
        state = "is sound" if report.is_sound else "is damaged; restore it from a backup"
        terminal.say(f"{name} {state} ({report.files:,} files, {report.tensors:,} tensors, {report.size_bytes / 1e6:,.1f} MB)")
    return 0 if report.is_sound else DAMAGED
