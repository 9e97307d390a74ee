"""`mplus demo`: read a long text, ask about facts near and far back, show and store how many answers were right."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, LARGEST_SEED, MOST_TOKENS, Device, DType, ModelName, NumberType, Verbose, a_path
from mplus.errors import InputError
from mplus.runtime.input_file import expanded

if TYPE_CHECKING:
    from mplus.demo.result import Answered, RetentionResult

MOST_QUESTIONS = 10_000
NAMES = {"mplus": "M+", "memoryllm": "MemoryLLM", "window": "window"}
STAGES = {
    "read": ("reading", "tokens"),
    "mplus": ("asking M+", "questions"),
    "memoryllm": ("asking MemoryLLM", "questions"),
    "window": ("asking the window", "tokens"),
}


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", parser=a_path, help="Where retention.json and retention.png go.")
    ] = Path("demo"),
    haystack: Annotated[
        str | None,
        typer.Option("--haystack", metavar="FILE", help="UTF-8 text to read.", show_default="what every Python carries"),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, max=MOST_TOKENS, help="How much to read.", show_default="164000")
    ] = None,
    questions: Annotated[int, typer.Option("--questions", min=1, max=MOST_QUESTIONS, help="Questions at each distance.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of names, values, places and random drops.")] = 0,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Let the model read 160,000 tokens once and answer from memory, beside MemoryLLM and the plain context window."""
    started = time.perf_counter()
    check_place(out)
    text = read_haystack(haystack)
    from mplus.demo import job

    length = job.DEFAULT_TOKENS if tokens is None else tokens
    distances = job.distances_within(length, questions)  # tells a text that is too short before the model is opened
    opened = open_model(model, dtype=dtype, device=device)
    with terminal.stage_bar(STAGES) as show:
        result = job.run_retention(
            opened, haystack=text, tokens=length, distances=distances, questions=questions, seed=seed, progress=show
        )
    paths = _store(result, out)
    terminal.mark_stored(out)
    _show_table(result)
    _show_examples(result)
    _show_end(result, paths, time.perf_counter() - started)


def read_haystack(file: str | None) -> str:
    from mplus.corpus.python_docs import python_text
    from mplus.text.files import read_text

    if file is not None:
        return read_text(expanded(file))
    with terminal.waiting("collecting the text that Python carries"):
        return python_text()


def check_place(out: Path) -> None:
    """Refuse a place where results cannot be stored before minutes of computing are spent on them."""
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError(f"results cannot be stored in '{out}': {nearest} is a file; give another directory with --out")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"results cannot be stored in '{out}': {nearest} may not be written; give another directory with --out")


def _store(result: RetentionResult, out: Path) -> list[Path]:
    """Replace both files together; returns their paths."""
    from mplus.demo.picture import draw_retention
    from mplus.runtime.atomic import replace_files
    from mplus.runtime.extras import can_draw

    out.mkdir(parents=True, exist_ok=True)
    writers: dict[Path, Callable[[Path], object]] = {
        out / "retention.json": lambda path: path.write_text(result.to_text(), encoding="utf-8")
    }
    if can_draw():
        writers[out / "retention.png"] = lambda path: draw_retention(result, path)
    return replace_files(writers)


def _show_table(result: RetentionResult) -> None:
    """Share of right answers at every distance; the last column lets the untrained window model talk longer."""
    from mplus.demo.result import LONG_ANSWER_TOKENS, WINDOW_LONG

    columns = {**NAMES, WINDOW_LONG: f"window, {LONG_ANSWER_TOKENS} tokens"}
    table = terminal.table("tokens back", *columns.values(), title=f"{result.model}: questions answered right")
    counts = [result.right_and_asked(system) for system in columns]
    for distance, *row in zip(result.distances, *counts, strict=True):
        table.add_row(f"{distance:,}", *(f"{right / max(1, asked):.2f} ({right}/{asked})" for right, asked in row))
    terminal.results().print(table)


def _show_examples(result: RetentionResult) -> None:
    """The first question of each distance, right or wrong, with every answer as it was given."""
    terminal.say("", "The first question of each distance, answers verbatim")
    for distance in result.distances:
        example = next((one for one in result.answered if one.planted.distance == distance), None)
        if example is not None:
            fact = example.planted.fact
            terminal.say(f"{distance:,} tokens back: {fact.question} ({fact.value})")
            terminal.say("    " + "   ".join(_answer(example, system) for system in NAMES))


def _answer(example: Answered, system: str) -> str:
    mark = "✓" if example.is_right(system) else "✗"
    return f"{NAMES[system]} {mark} “{' '.join(example.answers[system].split())}”"


def _show_end(result: RetentionResult, paths: list[Path], seconds: float) -> None:
    read_s = result.seconds["read"]
    asked = len(result.answered) * len(NAMES)
    terminal.say(
        "",
        f"read {result.tokens_read:,} tokens in {read_s:.0f} s ({result.tokens_read / max(read_s, 1e-9):,.0f} tokens/s), "
        f"asked {asked:,} questions in {sum(result.seconds.values()) - read_s:.0f} s; {seconds:.0f} s in all",
        *paths,
    )
