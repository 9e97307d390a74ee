"""`mplus ask`: one question, answered from a stored memory. Never changes the memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, MOST_TOKENS, HomeDirectory, MemoryDirectory, ModelName, Verbose
from mplus.cli.write import STDIN, _read_stdin
from mplus.errors import EmptyTextError
from mplus.memory.manifest import read_manifest
from mplus.runtime.unicode import well_formed

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


def ask(
    memory: MemoryDirectory,
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="What to ask; '-' reads it from stdin.", show_default=False)
    ],
    model: ModelName = DEFAULT_NAME,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens",
            min=1,
            max=MOST_TOKENS,
            help="Length of the answer at most; default: as `chat`, room for some sentences.",
        ),
    ] = None,
    show_retrieved: Annotated[bool, typer.Option("--show-retrieved", help="Say on stderr which sources were read.")] = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Answer a question from a memory. Prints the answer and nothing else."""
    question = well_formed(_read_stdin() if question == STDIN else question)
    if not question.strip():
        raise EmptyTextError('the question is empty; ask something, for example: mplus ask MEMORY "Where does Ana live?"')
    read_manifest(memory)
    opened = open_model(model)
    from mplus.memory.memory import Memory

    held = Memory.load(memory, opened)
    messages = [{"role": "user", "content": question}]
    retrieved: list[Any] = []
    with terminal.waiting("answering"):
        answer = opened.chat(messages, memory=held, max_new_tokens=max_new_tokens, do_sample=False, retrieved=retrieved)
    if show_retrieved:
        terminal.note(_retrieved_sentence(held, retrieved))
    terminal.say(answer)


def _retrieved_sentence(memory: Memory, retrieved: list[Any]) -> str:
    """How much of long-term memory the answer drew on, and from which sources."""
    layers = retrieved[0].layers if retrieved else []
    tokens, ages = Counter[str](), list[int]()
    for found in layers:
        ages += found.ages.tolist()
        for position in found.positions.tolist():
            chunk = memory.ledger.chunk_of(position)
            tokens.update({name or "(no name)" for name, _ in chunk.sources} if chunk else {"(the model's own memory)"})
    if not tokens:
        return f"retrieved nothing: all {len(memory.short_term):,} tokens are in short-term memory"
    read, shares = len(ages), ", ".join(f"{count / len(ages):.0%} {name}" for name, count in tokens.most_common())
    per_layer = f" in each of {len(layers)} layers" if len(layers) > 1 else ""
    return (
        f"retrieved {read // len(layers):,} of {len(memory.long_term):,} long-term tokens{per_layer}, "
        f"{min(ages):,} to {max(ages):,} tokens old: {shares}"
    )
