"""`mplus train`: train memory parts as a recipe says, with a bar on a terminal and plain lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mplus.cli import terminal
from mplus.cli.options import AsJson, Verbose, a_path
from mplus.errors import MPlusError, RecipeError

if TYPE_CHECKING:
    from mplus.training.run.metrics_log import Callback, LogRecord
    from mplus.training.run.recipe import Recipe
    from mplus.training.run.session import Plan
    from mplus.training.run.trainer import RunResult

INTERRUPTED = 130
EXAMPLE = "adapt/memory"


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help=f"A name that --list shows, e.g. {EXAMPLE}, or the path of a YAML file.", show_default=False
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting, e.g. optimiser.lr=1e-3; may be given again."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint of the run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the resolved settings and what would be trained; train nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", parser=a_path, help="Directory of the run.", show_default="runs/NAME"),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show the recipes that come with mplus; train nothing.")] = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Train memory parts: log, curves and checkpoints go into a directory, what was learned into its `delta`."""
    from mplus.training.run.recipe_file import read_recipe

    if list_:
        _show_names(as_json)
        return
    if recipe is None:
        raise RecipeError("no recipe is named; give a name that `mplus train --list` shows, or the path of a YAML file")
    place = [] if out is None else [f"out={_quoted(str(out))}"]
    with terminal.waiting(f"reading {recipe}"):
        settings = read_recipe(recipe, [*(changes or []), *place])
    if dry_run:
        _show_plan(settings, as_json)
        return
    main = os.environ.get("RANK", "0") == "0"
    _quiet()
    from mplus.training.run.session import run

    with _watching(settings) as callback:
        ended = run(settings, resume=resume, callback=callback if main else None)
    terminal.mark_stored(ended.delta if ended.reason == "done" else ended.checkpoint)
    if main:
        _show_end(ended, as_json)
    if ended.reason != "done":
        if main:
            again = _again(recipe, changes or [], out)
            terminal.note(f"stopped by {ended.reason} at step {ended.step}, stored in {ended.checkpoint}; go on with: {again}")
        raise typer.Exit(INTERRUPTED)


def _show_names(as_json: bool) -> None:
    from mplus.training.run.recipe_file import recipe_names

    if as_json:
        terminal.say_json([{"recipe": name, "about": what} for name, what in recipe_names().items()])
        return
    table = terminal.table("recipe", "what it is", text_columns=(0, 1))
    for name, what in recipe_names().items():
        table.add_row(name, what)
    terminal.results().print(table)


def _quoted(text: str) -> str:
    """As a YAML string, so that a directory called 1 stays a name."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _again(recipe: str, changes: list[str], out: Path | None) -> str:
    parts = ["mplus", "train", recipe, *(word for change in changes for word in ("--set", change))]
    return shlex.join([*parts, *(["--out", str(out)] if out else []), "--resume"])


def _quiet() -> None:
    if not terminal.is_verbose():
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _show_plan(settings: Recipe, as_json: bool) -> None:
    from mplus.training.run.recipe_file import write_recipe

    if not as_json:
        terminal.say(write_recipe(settings.resolved()).rstrip("\n"))
    _quiet()
    found, reason = _planned(settings)
    groups = [] if found is None else found.groups
    if as_json:
        trained = [{"group": name, "parameters": count, "lr": lr} for name, count, lr in groups]
        terminal.say_json(
            {"settings": settings.resolved(), "trained": trained, "not_counted": reason, "out": str(settings.directory)}
        )
        return
    for name, count, lr in groups:
        terminal.say(f"# {name}: {count:,} parameters, lr {lr:g}")
    terminal.say(f"# trained parameters: {f'not counted ({reason})' if found is None else f'{found.count:,}'}")
    steps = f"{settings.steps:,} steps of {settings.accumulation} batches" if settings.steps else ""
    minutes = f"{settings.minutes:g} minutes" if settings.minutes else ""
    terminal.say(f"# planned: {' or '.join(filter(None, (steps, minutes)))}, in {settings.directory}")


def _planned(settings: Recipe) -> tuple[Plan | None, str | None]:
    """Say what would be trained, or why that is not known."""
    try:
        with terminal.waiting("opening model and data, to count what is trained"):
            from mplus.training.run.session import plan

            return plan(settings), None
    except MPlusError as error:
        return None, " ".join(str(error).split())


def _show_end(ended: RunResult, as_json: bool) -> None:
    if as_json:
        last = None if ended.line is None else {"loss": ended.line.loss, **ended.line.metrics}
        terminal.say_json(
            {"reason": ended.reason, "step": ended.step, "seconds": ended.seconds, "delta": str(ended.delta), "last": last}
        )
        return
    terminal.say(f"{ended.step:,} steps, {ended.seconds:,.0f} s")
    if ended.line is not None:
        terminal.say(str(ended.line))
    terminal.say(ended.delta)


@contextlib.contextmanager
def _watching(settings: Recipe) -> Iterator[Callback]:
    from mplus.training.run.metrics_log import Callback

    shown = sys.stderr.isatty()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}% {task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not shown) as progress:
        bar = progress.add_task(terminal.shown(settings.name), total=1.0, status="")

        class Show(Callback):
            """A bar on a terminal, else a line for each logged step."""

            def on_begin(self, text: str) -> None:
                if shown:
                    progress.update(bar, status=text)
                else:
                    terminal.note(text)

            def on_step(self, line: LogRecord) -> None:
                progress.update(bar, completed=line.progress, status=_short(line))

            def on_log(self, line: LogRecord) -> None:
                if not shown:
                    terminal.note(str(line))

        yield Show()


def _short(line: LogRecord) -> str:
    """As much as fits beside a bar."""
    metrics = " ".join(f"{name} {value:.2f}" for name, value in list(line.metrics.items())[:4])
    left = "" if line.left_s is None else f", {line.left_s / 60:.0f} min left"
    return f"step {line.step} loss {line.loss:.3f} {metrics} {line.tokens_per_s:,.0f} tokens/s{left}"
