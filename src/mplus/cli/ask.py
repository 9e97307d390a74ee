"""`mplus ask`: one question, answered from a stored memory, and on demand what the answer drew on. Never changes the memory."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.documents import STDIN, read_stdin
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    MOST_TOKENS,
    AsJson,
    HomeDirectory,
    MemoryDirectory,
    MinConfidence,
    ModelName,
    Verbose,
    a_path,
    a_time,
    source_names,
)
from mplus.errors import EmptyTextError, InputError
from mplus.memory.home import Home
from mplus.memory.manifest import read_manifest
from mplus.memory.selection import ReadScope
from mplus.memory.stored import read_stored
from mplus.runtime.extras import require
from mplus.runtime.unicode import well_formed
from mplus.trace.trace import Answer


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
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--sources",
            metavar="PATTERN",
            autocompletion=source_names,
            help="Read only sources whose names match, e.g. 'notes/*'; may be given again.",
            show_default=False,
        ),
    ] = None,
    before: Annotated[
        datetime | None,
        typer.Option("--before", metavar="TIME", parser=a_time, help="Read only what was written before this time."),
    ] = None,
    after: Annotated[
        datetime | None,
        typer.Option("--after", metavar="TIME", parser=a_time, help="Read only what was written at or after this time."),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=2, help="2: search again with what was found, for what needs two steps.")
    ] = 1,
    trace: Annotated[bool, typer.Option("--trace", help="Also show the passages that the answer drew on.")] = False,
    attention: Annotated[
        bool, typer.Option("--attention", help="With the passages, show how much attention each got; implies --trace.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", parser=a_path, help="Draw the passages as a PNG; a file there is replaced."),
    ] = None,
    min_confidence: MinConfidence = None,
    show_retrieved: Annotated[bool, typer.Option("--show-retrieved", help="Say on stderr which sources were read.")] = False,
    as_json: AsJson = False,
    home: HomeDirectory = None,
    verbose: Verbose = False,
) -> None:
    """Answer a question from a memory. Prints the answer and nothing else, unless more is asked for.

    With --sources, --before and --after only what all of them allow is read; a time is a day or a moment of local time, e.g. 2026-11-28
    or 2026-11-28T09:30.
    """
    question = well_formed(read_stdin() if question == STDIN else question)
    if not question.strip():
        raise EmptyTextError('the question is empty; ask something, for example: mplus ask MEMORY "Where does Ana live?"')
    read_manifest(memory)
    scope = None if (sources or None, before, after) == (None, None, None) else ReadScope.of(sources or None, before, after)
    if scope is not None:
        scope.check(read_stored(memory).sources)
    if plot is not None:
        _check_plot(plot)
    traced = trace or attention or show_retrieved or plot is not None
    wanted: dict[str, Any] = {"trace": "attention" if attention else traced, "max_new_tokens": max_new_tokens}
    if rounds > 1:
        wanted["rounds"] = rounds
    if min_confidence is not None:
        wanted |= {"confidence": True, "min_confidence": min_confidence}
    result = _answered(memory, question, model, scope, wanted)
    answer, found = (result, None) if isinstance(result, str) else (result.text, result.trace if traced else None)
    if found is not None and plot is not None:
        found.plot(plot)
        terminal.mark_stored(plot)
    if found is not None and show_retrieved:
        terminal.note(found.summary)
    if as_json:
        traces = {} if found is None or not (trace or attention) else {"trace": found.to_json()}
        sure = {"confidence": result.confidence} if isinstance(result, Answer) and result.confidence is not None else {}
        terminal.say_json({"memory": Home(home).label(memory), "answer": answer, **sure, **traces})
        return
    terminal.say(answer)
    if found is not None and (trace or attention):
        terminal.results().print()
        terminal.results().print(found)


def _answered(directory: Path, question: str, model: str, scope: ReadScope | None, wanted: dict[str, Any]) -> str | Answer:
    """The answer, with what else is wanted of it.

    Args:
        scope: what of the memory may be read; None: all of it.
        wanted: options of ``chat``.
    """
    opened = open_model(model)
    from mplus.memory.memory import Memory

    held: Memory = Memory.load(directory, opened)
    if scope is not None:
        held = held.read_only(scope.sources, before=scope.before, after=scope.after)
    messages = [{"role": "user", "content": question}]
    with terminal.waiting("answering"):
        answer: str | Answer = opened.chat(messages, memory=held, do_sample=False, **wanted)
    return answer


def _check_plot(file: Path) -> None:
    """Refuse a picture that cannot be drawn before minutes are spent on the answer."""
    require("matplotlib", "--plot")
    if file.is_dir():
        raise InputError(f"--plot {file} is a directory; name a file, for example {file / 'trace.png'}")
    if not file.parent.is_dir():
        raise InputError(f"--plot {file}: there is no directory {file.parent}; make it, or name another file")
