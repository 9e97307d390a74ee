"""`mplus sync`: a folder kept in a memory, by content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.changing import PATIENCE_S
from mplus.cli.documents import note_skipped
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    AsJson,
    Device,
    DType,
    HomeDirectory,
    MemoryPlace,
    ModelName,
    NumberType,
    Verbose,
    a_path,
)
from mplus.cli.write import INCOMPLETE, check_place, holds_something, open_memory
from mplus.errors import MPlusError
from mplus.memory.folder_sync import SyncPlan, SyncReport, apply_sync, plan_sync
from mplus.memory.manifest import read_manifest
from mplus.memory.stored import read_stored
from mplus.memory.stores.lock import exclusive_change
from mplus.text.document_files import Skipped

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


def sync(
    memory: MemoryPlace,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", parser=a_path, help="The folder to keep in the memory.", show_default=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--pattern", metavar="GLOB", help="Files that count, e.g. '*.md'; several times for several.", show_default="all"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What names of sources begin with.", show_default="the folder's name"),
    ] = None,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Make a memory hold what a folder holds: write new and changed files, forget removed ones, leave the others untouched.

    Files are compared by content. Only sources that came from this folder are ever forgotten or replaced.
    """
    check_place(memory)
    digests, notes = _stored_sources(memory) if holds_something(memory) else ({}, {})
    plan = plan_sync(folder, digests, notes, prefix=name, patterns=pattern or ())
    if dry_run or plan.is_empty:
        _end(plan, None, as_json, done=not dry_run)
        return
    opened = open_model(model, dtype=dtype, device=device)
    with exclusive_change(memory, timeout_s=PATIENCE_S, tell=terminal.note):
        held = open_memory(memory, opened)
        plan = plan_sync(
            folder, {info.name: info.digest for info in held.sources()}, held.notes, prefix=name, patterns=pattern or ()
        )
        report = _applied(held, memory, plan)
    _end(plan, report, as_json, done=True)


def _stored_sources(directory: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Digests of the sources and the notes of a stored memory, from its manifest."""
    return {one.name: one.digest for one in read_stored(directory).sources}, read_manifest(directory).get("notes", {})


def _applied(held: Memory, directory: Path, plan: SyncPlan) -> SyncReport:
    """Take the folder over and store the memory, after Ctrl-C or an error as far as it got."""
    with terminal.stage_bar({"reading": ("reading", "tokens")}) as show:
        try:
            report = apply_sync(held, plan, progress=lambda done, total: show("reading", done, total))
        except KeyboardInterrupt:
            held.save(directory)
            raise terminal.Interrupted("interrupted; what was done is stored, the same command goes on") from None
        except (MPlusError, OSError, MemoryError):
            held.save(directory)
            raise
    held.save(directory)
    terminal.mark_stored(directory)
    return report


def _end(plan: SyncPlan, report: SyncReport | None, as_json: bool, *, done: bool) -> None:
    """Show the plan, or what was done of it.

    Raises:
        typer.Exit: some file could not be taken over.
    """
    skipped: list[Skipped] = [*plan.skipped, *(report.skipped if report is not None else ())]
    failed = {one.name for one in skipped if one.is_mistake}
    new, changed = ([file for file in files if file.name not in failed] for files in (plan.new, plan.changed))
    plan = replace(plan, new=new, changed=changed)
    note_skipped(skipped)
    if as_json:
        done_now = {"done": done, "tokens": report.tokens if report is not None else 0}
        terminal.say_json({**plan.to_json(), **done_now})
    else:
        for word, names in (("new", plan.new), ("changed", plan.changed)):
            for file in names:
                terminal.say(f"{word:8} {file.name}")
        for removed in plan.removed:
            terminal.say(f"removed  {removed}")
        counts = f"{len(plan.new)} new, {len(plan.changed)} changed, {len(plan.removed)} removed, {len(plan.unchanged)} unchanged"
        tokens = f"; {report.tokens:,} tokens written" if report is not None else ""
        terminal.say(f"{counts}{tokens}" if done else f"{counts}; nothing was done (--dry-run)")
    if any(one.is_mistake for one in skipped):
        raise typer.Exit(INCOMPLETE)
