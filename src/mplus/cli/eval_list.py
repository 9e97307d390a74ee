"""`mplus eval list`: which tasks and systems there are. Opens no model."""

from __future__ import annotations

from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import Verbose


def list_tasks(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Show this one's README.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All fields, as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Name all tasks and systems; with TASK, show its protocol, licence and how its numbers compare."""
    from mplus.evaluation.systems.protocol import SYSTEMS
    from mplus.evaluation.tasks.task_file import known_tasks, open_task

    console = terminal.results()
    if task is not None:
        opened = open_task(task)
        if as_json:
            terminal.say_json(opened.model_dump(mode="json"), indent=1)
        else:
            terminal.say(opened.title if opened.readme is None else opened.readme.read_text(encoding="utf-8").rstrip())
        return
    tasks = [open_task(name) for name in known_tasks()]
    if as_json:
        terminal.say_json([one.model_dump(mode="json") for one in tasks], indent=1)
        return
    table = terminal.table("task", "version", "metric", "data", "what it measures", text_columns=(0, 1, 2, 3, 4))
    for one in tasks:
        data = "made here" if one.source is None else one.source.hub or one.source.local or ""
        if one.source is None and one.builder in ("retention", "documents", "babilong", "conversations", "incremental"):
            data = "--data FILE"
        table.add_row(one.task, str(one.version), one.metric or one.measure, data, one.title)
    console.print(table)
    console.print()
    systems = terminal.table("system", "what it sees", text_columns=(0, 1))
    for name, what in SYSTEMS.items():
        systems.add_row(name, what)
    console.print(systems)
