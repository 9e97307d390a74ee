"""`mplus ask`: one question, answered from a stored memory. Never changes the memory."""

from __future__ import annotations

from typing import Annotated

import typer

from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, MemoryDirectory, ModelName, Verbose
from mplus.errors import EmptyTextError


def ask(
    memory: MemoryDirectory,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask.", show_default=False)],
    model: ModelName = DEFAULT_NAME,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Length of the answer at most.")] = 64,
    show_retrieved: Annotated[bool, typer.Option("--show-retrieved", help="Say on stderr which sources were read.")] = False,
    verbose: Verbose = False,
) -> None:
    """Answer a question from a memory. Prints the answer and nothing else."""
    if not question.strip():
        raise EmptyTextError('the question is empty; ask something, for example: mplus ask MEMORY "Where does Ana live?"')
    from mplus.memory.snapshot import read_manifest

    read_manifest(memory)
    opened = open_model(model)
    from mplus.memory.memory import Memory

    held = Memory.load(memory, opened)
    answer = opened.chat([{"role": "user", "content": question}], memory=held, max_new_tokens=max_new_tokens, do_sample=False)
    typer.echo(answer.strip())
