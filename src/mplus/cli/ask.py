"""`mplus ask`: one question, answered from a stored memory. Never changes the memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, MemoryDirectory, ModelName, Verbose
from mplus.errors import EmptyTextError

if TYPE_CHECKING:
    from mplus.memory.memory import Memory
    from mplus.model import MPlusModel


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
    messages = [{"role": "user", "content": question}]
    if show_retrieved:
        terminal.note(_retrieved_sentence(opened, held, messages))
    with terminal.waiting("answering"):
        answer = opened.chat(messages, memory=held, max_new_tokens=max_new_tokens, do_sample=False)
    typer.echo(answer.strip())


def _retrieved_sentence(model: MPlusModel, memory: Memory, messages: list[dict[str, str]]) -> str:
    """How much of long-term memory this prompt reads, and from which sources."""
    import torch

    prompt = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([model.tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    retrieved = model(ids, memory=memory, return_retrieved=True).retrieved
    layers = retrieved[0].layers if retrieved else []
    tokens, ages = Counter[str](), list[int]()
    for found in layers:
        ages += found.ages.tolist()
        for age in found.ages.tolist():
            chunk = memory.ledger.chunk_of(memory.now - 1 - age)
            tokens.update({name or "(no name)" for name, _ in chunk.sources} if chunk else {"(the model's own memory)"})
    if not tokens:
        return f"retrieved nothing: all {len(memory.pool):,} tokens are in short-term memory"
    read, shares = len(ages), ", ".join(f"{count / len(ages):.0%} {name}" for name, count in tokens.most_common())
    per_layer = f" in each of {len(layers)} layers" if len(layers) > 1 else ""
    return (
        f"retrieved {read // len(layers):,} of {len(memory.longterm):,} long-term tokens{per_layer}, "
        f"{min(ages):,} to {max(ages):,} tokens old: {shares}"
    )
