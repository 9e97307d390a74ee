"""What `mplus eval` prints of a finished task: its tables, what the systems saw, and what was left out. Runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mplus.cli import terminal

if TYPE_CHECKING:
    from mplus.evaluation.report.summary import Summary


def show(summary: Summary, left_out: list[str], paths: list[Path]) -> None:
    """Print it all to stdout."""
    from mplus.evaluation.report.summary import NAMES, RETRIEVAL

    console = terminal.results()
    tables = [(f"{summary.task}: {summary.meaning}", summary.rows()), (RETRIEVAL, summary.retrieval_rows())]
    for title, (headings, rows) in tables:
        if len(headings) > 1:
            table = terminal.table(*headings, title=f"{summary.model}: {title}")
            for row in rows:
                table.add_row(*row)
            console.print(table)
    context = summary.context
    read, seconds = sum(context["tokens_read"].values()), context["seconds_of"]
    reading = seconds.get("read", 0.0)
    answers = sum(sample.asked for sample in summary.samples)
    each = ", ".join(f"{NAMES.get(name, name)} {value:,}" for name, value in context["seconds_per_1000_answers"].items())
    terminal.say(
        "",
        summary.budget_sentence(),
        f"read {read:,} tokens in {reading:.0f} s, gave {answers:,} answers in {context['seconds'] - reading:.0f} s",
        f"seconds per 1,000 answers, reading apart: {each}",
        *left_out,
        *paths,
    )
