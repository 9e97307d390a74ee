"""`mplus eval`: measure what a memory is worth. `mplus eval TASK[,TASK...]` runs tasks; the other commands list, join and judge."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from mplus.cli.eval_judge import judge
from mplus.cli.eval_list import list_tasks
from mplus.cli.eval_report import report
from mplus.cli.eval_run import run
from mplus.cli.options import example

RUN = "run"


class TaskGroup(TyperGroup):
    """Takes what is no command of its own for the name of a task."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``eval needle --limit 2`` means ``eval run needle --limit 2``."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [RUN, *args]
        found: list[str] = super().parse_args(ctx, args)
        return found

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Show both ways."""
        formatter.write_usage(ctx.command_path, "TASK[,TASK...] [OPTIONS]  |  list | report | judge")


app = typer.Typer(
    cls=TaskGroup,
    help="Measure what a memory is worth: `mplus eval TASK[,TASK...] --out DIR` runs tasks (retention, facts, needle ...) "
    "against baselines, `mplus eval list` names them all.",
    no_args_is_help=True,
)
app.command(RUN, epilog=example("mplus eval run needle --limit 8 --out runs/needle"))(run)
app.command("list", epilog=example("mplus eval list needle"))(list_tasks)
app.command("report", epilog=example("mplus eval report runs/needle runs/other"))(report)
app.command("judge", epilog=example("mplus eval judge runs/locomo --url http://localhost:8000/v1 --judge-model qwen2.5-72b"))(
    judge
)
