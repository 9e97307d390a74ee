"""`mplus eval`: measure what a memory is worth. `mplus eval TASK[,TASK...]` runs tasks; `list`, `report` and `judge` open no model."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from mplus.cli import terminal
from mplus.cli.eval_options import accepted, option_values, options_of, settings_for
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
    example,
)
from mplus.errors import InputError

if TYPE_CHECKING:
    from mplus.evaluation.report.summary import Summary
    from mplus.evaluation.task_run import TaskRun

RUN: Final = "run"
_FEW_STREAMS: Final = 16
_KINDS: Final = (".png", ".md")
_FURTHER: Final = """Every setting of a task is an option too: --distances, like 0,4k,16k,160k; --lengths, like 4k,64k;
--seeds, like 0,1,2; --tokens, --distractors, --questions-per-passage, --max-answer-tokens, --nq-half (`mplus eval list TASK` and its YAML).

Options of every task: --max-new-tokens, --text-budget TOKENS (of window and bm25), --plain-adapter DIR (an adapter on the base, for
systems that get text), --memoryllm-model NAME (weights trained as MemoryLLM), --store disk (long-term memory below --out),
--source-tokens TOKENS (of one source: a chunk sees the newest tokens of its own source only).

"""


class TaskGroup(TyperGroup):
    """Takes what is no command of its own for the name of a task."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``eval needle --limit 2`` means ``eval run needle --limit 2``."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [RUN, *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Show both ways."""
        formatter.write_usage(ctx.command_path, "TASK[,TASK...] [OPTIONS]  |  list | report | judge")


class RunCommand(TyperCommand):
    """Keeps options that are not its own: settings of tasks and of the run (``option_values``)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {"--help"} | {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        args, ctx.obj = option_values(args, own)
        rest: list[str] = super().parse_args(ctx, args)
        return rest


app = typer.Typer(
    cls=TaskGroup,
    help="Measure what a memory is worth: `mplus eval TASK[,TASK...] --out DIR` runs tasks (retention, facts, needle ...) "
    "against baselines, `mplus eval list` names them all.",
    no_args_is_help=True,
)


@app.command(RUN, cls=RunCommand, epilog=_FURTHER + example("mplus eval run needle --limit 8 --out runs/needle"))
def run(
    context: typer.Context,
    tasks: Annotated[
        str,
        typer.Argument(metavar="TASK[,TASK...]", help="Names of `mplus eval list`, or paths of .yaml files.", show_default=False),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", parser=a_path, help="Where results go; of several tasks into a directory each."),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="FILE", parser=a_path, help="The task's data. Repeatable.", show_default="its source"),
    ] = None,
    haystack: Annotated[
        list[Path] | None,
        typer.Option(
            "--haystack", metavar="FILE", parser=a_path, help="UTF-8 text, or a directory of .txt. Repeatable.",
            show_default="what every Python carries",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "--questions", min=1, max=MOST_TOKENS, help="Questions of a table row at most.", show_default="the task's own"
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of samples, their order, what is generated, and random drops.")
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[TASK.]KEY=VALUE", help="A setting of a task (`mplus eval list TASK`). Repeatable."),
    ] = None,
    systems: Annotated[
        str | None,
        typer.Option(
            "--systems", metavar="LIST", help="Of mplus, memoryllm, full, window, bm25, passage.", show_default="the task's own"
        ),
    ] = None,
    set_geometry: Annotated[
        list[str] | None,
        typer.Option("--set-geometry", metavar="KEY=VALUE", help="A size of the memory: K0, N, M or a field's name. Repeatable."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant", metavar="NAME:KEY=VALUE,...", help="A further M+ memory with a changed geometry, like k0-128:K0=128. Repeatable."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out; its settings must be the same.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Run tasks: every sample starts from a fresh memory, answers are stored as they are given, a table is printed."""
    from mplus.evaluation.ablations import parse_ablations, parse_sizes
    from mplus.evaluation.evaluate import check, plan
    from mplus.evaluation.systems.protocol import known_systems
    from mplus.evaluation.tasks.task_file import open_task

    opened = [open_task(name) for name in dict.fromkeys(part.strip() for part in tasks.split(",") if part.strip())]
    if not opened:
        raise InputError("no task was named; `mplus eval list` shows them")
    if twice := [name for name, count in Counter(task.task for task in opened).items() if count > 1]:
        raise InputError(f"two of the tasks are named '{twice[0]}'; run them one by one, each with its own --out")
    if resume and overwrite:
        raise InputError("--resume keeps the run in --out and --overwrite replaces it; give one of them")
    further, named = accepted(context.obj or {})
    settings = settings_for(opened, named, set_ or [])
    runs = [
        (
            task,
            options_of(
                out=out if len(opened) == 1 else out / task.task,
                data=data or (),
                haystack=haystack or (),
                limit=limit,
                seed=seed,
                settings=settings[task.task],
                systems=None if systems is None else known_systems([one.strip() for one in systems.split(",") if one.strip()]),
                geometry=parse_sizes(set_geometry or []),
                ablations=parse_ablations(variant or []),
                if_exists="resume" if resume else "overwrite" if overwrite else "refuse",
                open_model=lambda name: open_model(name, dtype=dtype, device=device),
                **further,
            ),
        )
        for task in opened
    ]
    for task, options in runs:
        check(task, options)
    with_memory = open_model(model, dtype=dtype, device=device)
    plain: list[Any] = []
    for task, options in runs:
        with terminal.waiting(f"{task.task}: planning what is read and asked"):
            planned = plan(task, with_memory, options)
        summary = run_planned(planned, options.out, resume=resume)
        terminal.mark_stored(options.out)
        plain.append(json.loads(json.dumps(summary.to_json(), default=str)))
        if not as_json:
            show(summary, planned.left_out.lines())
    if as_json:
        terminal.say_json(plain)


def run_planned(planned: TaskRun, out: Path, *, resume: bool) -> Summary:
    """Run behind a bar: of tokens, or of texts where there are many."""
    from mplus.evaluation.schedule.stream_run import Hooks

    names = [stream.name for stream in planned.streams]
    if len(names) <= _FEW_STREAMS:
        with terminal.stage_bar({name: (f"{name}: reading and asking", "tokens") for name in names}) as bar:
            return planned.run(out, Hooks(progress=bar), resume=resume)
    order = {name: number for number, name in enumerate(names)}
    with terminal.stage_bar({planned.task: (f"{planned.task}: reading and asking", "texts")}) as bar:

        def progress(name: str, done: int, total: int) -> None:
            bar(planned.task, order[name] + (done >= total), len(order))

        return planned.run(out, Hooks(progress=progress), resume=resume)


def show(summary: Summary, left_out: list[str]) -> None:
    """Print the tables of a finished task, what the systems saw, and what was left out."""
    from mplus.evaluation.report.summary import NAMES, RETRIEVAL

    for title, (headings, rows) in (
        (f"{summary.task}: {summary.meaning}", summary.rows()),
        (RETRIEVAL, summary.retrieval_rows()),
    ):
        if len(headings) > 1:
            _print_table(headings, rows, f"{summary.model}: {title}")
    context = summary.context
    read, seconds = sum(context["tokens_read"].values()), context["seconds_of"]
    reading = seconds.get("read", 0.0)
    answers = sum(sample.asked for sample in summary.samples)
    each = ", ".join(f"{NAMES.get(name, name)} {value:,}" for name, value in context["seconds_per_1000_answers"].items())
    terminal.say(
        "",
        *summary.refusal_lines(),
        summary.budget_sentence(),
        f"read {read:,} tokens in {reading:.0f} s, gave {answers:,} answers in {context['seconds'] - reading:.0f} s",
        f"seconds per 1,000 answers, reading apart: {each}",
        *left_out,
        *summary.paths,
    )


def _print_table(
    headings: list[str], rows: list[list[str]], title: str | None = None, text_columns: tuple[int, ...] = (0,)
) -> None:
    table = terminal.table(*headings, title=title, text_columns=text_columns)
    for row in rows:
        table.add_row(*row)
    terminal.results().print(table)


@app.command("list", epilog=example("mplus eval list needle"))
def list_tasks(
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Show this one's README.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All fields, as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Name all tasks and systems; with TASK, show its protocol, licence and how its numbers compare."""
    from mplus.evaluation.systems.protocol import SYSTEMS
    from mplus.evaluation.tasks.task_file import known_tasks, open_task

    if task is not None:
        opened = open_task(task)
        if as_json:
            terminal.say_json(opened.model_dump(mode="json"), indent=1)
        else:
            terminal.say(opened.title if opened.readme is None else opened.readme.read_text(encoding="utf-8").rstrip())
        return
    tasks = [open_task(name) for name in known_tasks()]
    if as_json:
        terminal.say_json([one.model_dump(mode="json") for one in tasks], indent=1)
        return
    rows = [[one.task, str(one.version), one.metric or one.measure, one.data_place, one.title] for one in tasks]
    _print_table(["task", "version", "metric", "data", "what it measures"], rows, text_columns=(0, 1, 2, 3, 4))
    terminal.results().print()
    _print_table(["system", "what it sees"], [list(one) for one in SYSTEMS.items()], text_columns=(0, 1))


@app.command("report", epilog=example("mplus eval report runs/needle runs/other"))
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="DIR...", parser=a_path, help="What finished runs had as --out.", show_default=False)
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", metavar="FILE", parser=a_path, help="A picture (.png) or a table (.md). Repeatable."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Join runs: the mean and spread over seeds of what differs in nothing else, and everything else side by side."""
    from mplus.evaluation.evaluate import check_place

    files = out or []
    for file in files:
        if file.suffix.lower() not in _KINDS:
            raise InputError(f"'{file}' is neither a picture nor a table; give --out a name that ends in {' or '.join(_KINDS)}")
        if file.is_dir():
            raise InputError(f"'{file}' is a directory; give --out a file")
        check_place(file.parent)
    from mplus.evaluation.report.comparison import read_report

    joined = read_report(runs)
    headings, rows = joined.rows()
    if not as_json:
        _print_table(headings, rows, f"{joined.task}: {joined.score}")
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
        if not as_json:
            terminal.say(file)
    if as_json:
        cells = [dict(zip([headings[0] or "row", *headings[1:]], row, strict=True)) for row in rows]
        terminal.say_json({"task": joined.task, "score": joined.score, "rows": cells, "files": [str(file) for file in files]})


@app.command("judge", epilog=example("mplus eval judge runs/locomo --url http://localhost:8000/v1 --judge-model qwen2.5-72b"))
def judge(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", parser=a_path, help="What a finished run had as --out.", show_default=False)
    ],
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Of the endpoint, up to /v1.")],
    judge_model: Annotated[str, typer.Option("--judge-model", metavar="NAME", help="As the endpoint calls it.")],
    key_env: Annotated[
        str, typer.Option("--key-env", metavar="NAME", help="Environment variable that holds the key.")
    ] = "OPENAI_API_KEY",
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Judge every answer once; verdicts go to judged.jsonl beside the samples, and a stopped run goes on from them."""
    from mplus.evaluation.scoring.judge import Judge, judge_run

    with terminal.token_bar("judging", None) as bar:
        found = judge_run(directory, Judge(url=url, model=judge_model, key_env=key_env), lambda done, total: bar(done))
    terminal.mark_stored(directory / "judged.jsonl")
    rows = [
        [system, row, "-" if one["share"] is None else f"{one['share']:.2f}", str(one["judged"]), str(one["no_verdict"])]
        for system, listed in found["systems"].items()
        for row, one in listed.items()
    ]
    if as_json:
        terminal.say_json(found)
    else:
        _print_table(["system", "row", "judged right", "judged", "no verdict"], rows, text_columns=(0, 1))
    if found["no_verdict"]:
        said = ", ".join(repr(" ".join(one.split())[:60]) for one in found["unclear"])
        total = found["judged"] + found["no_verdict"]
        sentence = f"{found['no_verdict']} of {total} answers have no verdict, for the judge said neither yes nor no ({said})"
        if not found["judged"]:
            raise InputError(f"{sentence}; name another judge model, or ask it again later")
        terminal.note(f"{sentence}; they are asked about again the next time")
