"""`mplus demo`: read a long text, ask about facts near and far back, show and store how many answers were right.

The task is `demo`, or `pairs` for a model that knows the made-up language of `mplus.corpus.pair_facts` only, such as paper-tiny.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import (
    DEFAULT_NAME,
    LARGEST_SEED,
    MOST_TOKENS,
    AsJson,
    Device,
    DType,
    ModelName,
    NumberType,
    Verbose,
    a_path,
)
from mplus.errors import InputError

if TYPE_CHECKING:
    from mplus.evaluation.report.result_log import Sample
    from mplus.evaluation.report.retention import Retention
    from mplus.evaluation.report.summary import Summary
    from mplus.evaluation.task_run import TaskRun

MOST_QUESTIONS = 10_000
NAMES = {"mplus": "M+", "memoryllm": "MemoryLLM", "window": "window"}
STAGES = {
    "mplus": ("asking M+", "questions"),
    "memoryllm": ("asking MemoryLLM", "questions"),
    "window": ("asking the window", "questions"),
}


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", parser=a_path, help="Where retention.json and retention.png go.")
    ] = Path("demo"),
    haystack: Annotated[
        Path | None,
        typer.Option("--haystack", metavar="FILE", parser=a_path, help="UTF-8 text to read.", show_default="what every Python carries"),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, max=MOST_TOKENS, help="How much to read.", show_default="164000")
    ] = None,
    questions: Annotated[int, typer.Option("--questions", min=1, max=MOST_QUESTIONS, help="Questions at each distance.")] = 16,
    seed: Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of names, values, places and random drops.")] = 0,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Let the model read 160,000 tokens once and answer from memory, beside MemoryLLM and the plain context window.

    A demo that was stopped goes on when it is run again.
    """
    started = time.perf_counter()
    from mplus.evaluation.evaluate import Options, check, plan
    from mplus.evaluation.report.retention import Retention
    from mplus.evaluation.tasks.facts.builder import distances_within
    from mplus.evaluation.tasks.task_file import open_task

    pairs = _knows_pairs(model)
    if pairs and haystack is not None:
        raise InputError(f"model '{model}' knows a made-up language only, so it cannot read '{haystack}'; leave out --haystack")
    task = open_task("pairs" if pairs else "demo")
    options = Options(
        out=out,
        haystack=() if haystack is None else (haystack,),
        limit=questions,
        seed=seed,
        settings={} if tokens is None else {"tokens": tokens},
        if_exists="overwrite",
    )
    check(task, options)
    if not pairs:
        distances_within(
            tokens or task.settings["tokens"], questions
        )  # tells a text that is too short before the model is opened
    opened = open_model(model, dtype=dtype, device=device)
    with terminal.waiting("collecting the text, and facts for it"):
        planned = plan(task, opened, options)
    result = Retention(_run(planned, out))
    paths = store(result, out)
    terminal.mark_stored(out)
    if as_json:
        terminal.say_json(result.to_json())
        return
    _show_table(result)
    _show_examples(result)
    _show_end(result, paths, time.perf_counter() - started)


def _knows_pairs(model: str) -> bool:
    """Tell whether a model's files say that it knows the words of task `pairs`."""
    from mplus.cli.model import ASSETS
    from mplus.corpus.pair_facts import are_words_of

    try:
        return any(are_words_of(place / "tokenizer.json") for place in (ASSETS / model, Path(model)))
    except (OSError, ValueError):  # no path at all, or no such file: opening the model says what is wrong
        return False


def _run(planned: TaskRun, out: Path) -> Summary:
    """Read and ask, a line a system as soon as it has answered; what a stopped run stored is not asked again."""
    from mplus.evaluation.schedule.stream_run import Hooks

    name = planned.streams[0].name
    with terminal.stage_bar({name: ("reading", "tokens"), **STAGES}) as bar:

        def answered(system: str, done: int, total: int, samples: list[Sample]) -> None:
            if system in STAGES:
                bar(system, done, total)
            if done == total and samples:
                terminal.note(_row(system, samples))

        return planned.run(out, Hooks(progress=bar, answered=answered), resume=_goes_on(planned, out))


def _goes_on(planned: TaskRun, out: Path) -> bool:
    """Tell whether there is a run of the same settings that was stopped."""
    if not (out / "samples.jsonl").exists() or (out / "summary.json").exists():
        return False
    try:
        planned.check_same(out)
    except InputError:
        return False
    terminal.note(f"going on with the run in '{out}' that was stopped")
    return True


def _row(system: str, samples: list[Sample]) -> str:
    """Right answers of a system at each distance, on one line."""
    from mplus.evaluation.schedule.distances import short

    parts = []
    for distance in sorted({sample.distance for sample in samples}):
        group = [sample.right for sample in samples if sample.distance == distance]
        parts.append(f"{short(distance)} {sum(group)}/{len(group)}")
    return f"{_columns()[system]}: {', '.join(parts)} right"


def _columns() -> dict[str, str]:
    from mplus.evaluation.report.retention import WINDOW_LONG
    from mplus.evaluation.systems.protocol import LONG_ANSWER_TOKENS

    return {**NAMES, WINDOW_LONG: f"window, {LONG_ANSWER_TOKENS} tokens"}


def _columns_of(result: Retention) -> dict[str, str]:
    from mplus.evaluation.report.retention import WINDOW_LONG

    return {name: title for name, title in _columns().items() if name != WINDOW_LONG or result.has_long_window}


def store(result: Retention, out: Path) -> list[Path]:
    """Replace retention.json and its picture together; returns their paths."""
    from mplus.evaluation.report.pictures import draw_retention
    from mplus.runtime.atomic import replace_files
    from mplus.runtime.extras import can_draw

    writers: dict[Path, Callable[[Path], object]] = {
        out / "retention.json": lambda path: path.write_text(result.to_text(), encoding="utf-8")
    }
    if can_draw():
        writers[out / "retention.png"] = lambda path: draw_retention(result, path)
    return replace_files(writers)


def _show_table(result: Retention) -> None:
    """Share of right answers at every distance; the last column lets the untrained window model talk longer."""
    columns = _columns_of(result)
    table = terminal.table("tokens back", *columns.values(), title=f"{result.summary.model}: questions answered right")
    counts = [result.right_and_asked(system) for system in columns]
    for distance, *row in zip(result.distances, *counts, strict=True):
        table.add_row(f"{distance:,}", *(f"{right / max(1, asked):.2f} ({right}/{asked})" for right, asked in row))
    terminal.results().print(table)


def _show_examples(result: Retention) -> None:
    """The first question of each distance, right or wrong, with every answer as it was given."""
    terminal.say("", "The first question of each distance, answers verbatim")
    for distance in result.distances:
        example = next(given for given in result.answers.values() if given["mplus"].distance == distance)
        asked = example["mplus"]
        terminal.say(f"{distance:,} tokens back: {asked.question} ({asked.answers[0]})")
        terminal.say("    " + "   ".join(_answer(name, example[system]) for system, name in NAMES.items()))


def _answer(name: str, sample: Sample) -> str:
    return f"{name} {'✓' if sample.right else '✗'} “{' '.join(sample.given.split())}”"


def _show_end(result: Retention, paths: list[Path], seconds: float) -> None:
    read_s = result.seconds["read"]
    terminal.say(
        "",
        f"read {result.tokens_read:,} tokens in {read_s:.0f} s ({result.tokens_read / max(read_s, 1e-9):,.0f} tokens/s), "
        f"asked {len(result.answers) * len(NAMES):,} questions in {sum(result.seconds.values()) - read_s:.0f} s; {seconds:.0f} s in all",
        *paths,
    )
