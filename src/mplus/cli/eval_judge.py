"""`mplus eval judge`: let a language model behind an OpenAI-compatible endpoint judge the answers of a finished run. Opens no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mplus.cli import terminal
from mplus.cli.options import Verbose, a_path
from mplus.errors import InputError


def judge(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", parser=a_path, help="What a finished run had as --out.", show_default=False)
    ],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Of the endpoint, up to /v1.")],
    judge_model: Annotated[str, typer.Option("--judge-model", metavar="NAME", help="As the endpoint calls it.")],
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="NAME", help="Environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    verbose: Verbose = False,
) -> None:
    """Judge every answer once; verdicts go to judged.jsonl beside the samples, and a stopped run goes on from them."""
    from mplus.evaluation.scoring.judge import Judge, judge_run

    with terminal.token_bar("judging", None) as show:
        found = judge_run(directory, Judge(url=url, model=judge_model, key_env=key_env), lambda done, total: show(done))
    terminal.mark_stored(directory / "judged.jsonl")
    table = terminal.table("system", "row", "judged right", "judged", "no verdict", text_columns=(0, 1))
    for system, rows in found["systems"].items():
        for row, one in rows.items():
            share = "-" if one["share"] is None else f"{one['share']:.2f}"
            table.add_row(system, row, share, str(one["judged"]), str(one["no_verdict"]))
    terminal.results().print(table)
    if found["no_verdict"]:
        said = ", ".join(repr(" ".join(one.split())[:60]) for one in found["unclear"])
        total = found["judged"] + found["no_verdict"]
        told = f"{found['no_verdict']} of {total} answers have no verdict, for the judge said neither yes nor no ({said})"
        if not found["judged"]:
            raise InputError(f"{told}; name another judge model, or ask it again later")
        terminal.note(f"{told}; they are asked about again the next time")
