"""`mplus eval report`: finished runs joined into one table and one picture. Opens no model."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.demo import check_place
from mplus.cli.options import Verbose, a_path
from mplus.errors import InputError

KINDS = (".png", ".md")


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR...", parser=a_path, help="What finished runs had as --out.", show_default=False)
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", metavar="FILE", parser=a_path, help="A picture (.png) or a table (.md). Repeatable."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Join runs: the mean and spread over seeds of what differs in nothing else, and everything else side by side."""
    files = out or []
    for file in files:
        if file.suffix.lower() not in KINDS:
            raise InputError(f"'{file}' is neither a picture nor a table; give --out a name that ends in {' or '.join(KINDS)}")
        if file.is_dir():
            raise InputError(f"'{file}' is a directory; give --out a file")
        check_place(file.parent)
    from mplus.evaluation.report.comparison import read_report

    joined = read_report(runs)
    headings, rows = joined.rows()
    table = terminal.table(*headings, title=f"{joined.task}: {joined.score}")
    for row in rows:
        table.add_row(*row)
    terminal.results().print(table)
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.stem}.{secrets.token_hex(4)}{file.suffix}")
        try:
            if file.suffix.lower() == ".md":
                aside.write_text(joined.to_markdown(), encoding="utf-8")
            else:
                joined.draw(aside)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
        terminal.mark_stored(file)
        terminal.say(file)
