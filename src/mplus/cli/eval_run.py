"""`mplus eval TASK[,TASK...]`: run tasks. Results go to a directory, tables to stdout."""

from __future__ import annotations

import platform
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mplus.cli import terminal
from mplus.cli.demo import check_place
from mplus.cli.eval_settings import named_settings, parse_set, seed_list, settings_for
from mplus.cli.eval_show import show as show_summary
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, LARGEST_SEED, MOST_TOKENS, Device, DType, ModelName, NumberType, Verbose, a_path
from mplus.errors import GeometryError, InputError

if TYPE_CHECKING:
    from mplus.evaluation.ablations import Ablation
    from mplus.evaluation.job import TaskRun
    from mplus.evaluation.systems.factory import SystemFactory
    from mplus.evaluation.tasks.task_file import TaskFile
    from mplus.model import MPlusModel

_FEW_STREAMS = 16
_TASK = "Task settings"
_WHO = "Who answers"


def run(
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
        typer.Option(
            "--data", metavar="FILE", parser=a_path, help="The task's data. Repeatable.", show_default="the task's source"
        ),
    ] = None,
    haystack: Annotated[
        list[Path] | None,
        typer.Option(
            "--haystack",
            metavar="FILE",
            parser=a_path,
            help="UTF-8 text, or a directory of .txt. Repeatable.",
            show_default="what every Python carries",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            "--questions",
            min=1,
            max=MOST_TOKENS,
            help="Questions of a table row at most.",
            show_default="the task's own",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Of samples, their order, what is generated, and random drops.")
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[TASK.]KEY=VALUE",
            help="A setting of a task (`mplus eval list TASK`). Repeatable.",
            rich_help_panel=_TASK,
        ),
    ] = None,
    distances: Annotated[
        str | None, typer.Option("--distances", metavar="LIST", help="Tokens back, like 0,4k,16k,160k.", rich_help_panel=_TASK)
    ] = None,
    lengths: Annotated[
        str | None, typer.Option("--lengths", metavar="LIST", help="Tokens of text, like 4k,64k.", rich_help_panel=_TASK)
    ] = None,
    distractors: Annotated[
        list[Path] | None,
        typer.Option(
            "--distractors",
            metavar="FILE",
            parser=a_path,
            help="retention: more text to read. Repeatable.",
            rich_help_panel=_TASK,
        ),
    ] = None,
    per_passage: Annotated[
        int | None,
        typer.Option("--questions-per-passage", min=1, max=MOST_TOKENS, help="retention: at most.", rich_help_panel=_TASK),
    ] = None,
    max_answer_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-answer-tokens", min=1, max=MOST_TOKENS, help="retention: leave longer answers out.", rich_help_panel=_TASK
        ),
    ] = None,
    nq_half: Annotated[
        str | None,
        typer.Option(
            "--nq-half", metavar="eval|all", help="retention: articles kept from training, or all.", rich_help_panel=_TASK
        ),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, max=MOST_TOKENS, help="facts: largest distance.", rich_help_panel=_TASK)
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="LIST", help="facts: a stream each, like 0,1,2.", rich_help_panel=_TASK)
    ] = None,
    systems: Annotated[
        str | None,
        typer.Option(
            "--systems",
            metavar="LIST",
            help="Of mplus, memoryllm, full, window, bm25, passage.",
            show_default="the task's own",
            rich_help_panel=_WHO,
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens",
            min=1,
            max=MOST_TOKENS,
            help="Longest answer.",
            show_default="the task's own",
            rich_help_panel=_WHO,
        ),
    ] = None,
    text_budget: Annotated[
        int | None,
        typer.Option(
            "--text-budget",
            min=1,
            max=MOST_TOKENS,
            metavar="TOKENS",
            help="Text that window and bm25 may see.",
            show_default="window: what fits; bm25: N + K0",
            rich_help_panel=_WHO,
        ),
    ] = None,
    set_geometry: Annotated[
        list[str] | None,
        typer.Option(
            "--set-geometry",
            metavar="KEY=VALUE",
            help="A size of the memory: K0, N, M or a field's name. Repeatable.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME:KEY=VALUE,...",
            help="A further M+ memory with a changed geometry, like k0-128:K0=128. Repeatable.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    memoryllm_model: Annotated[
        str | None,
        typer.Option(
            "--memoryllm-model",
            metavar="NAME",
            help="Weights trained as MemoryLLM; default: the model's own.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    adapter: Annotated[
        Path | None,
        typer.Option(
            "--plain-adapter",
            "--passage-adapter",
            metavar="DIR",
            parser=a_path,
            help="Adapter on the base (PEFT's, or a delta's read adapter) for systems that get text.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    store: Annotated[
        str, typer.Option("--store", metavar="ram|disk", help="Where long-term memory lives; disk: below --out.")
    ] = "ram",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out; its settings must be the same.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    model: ModelName = DEFAULT_NAME,
    dtype: DType = NumberType.auto,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Run tasks: every sample starts from a fresh memory, answers are stored as they are given, a table is printed."""  # fmt: skip
    from mplus.evaluation.ablations import parse_ablations, parse_sizes
    from mplus.evaluation.systems.factory import known_systems
    from mplus.evaluation.tasks.context import file_digests
    from mplus.evaluation.tasks.task_file import open_task

    opened_tasks = [open_task(name) for name in dict.fromkeys(part.strip() for part in tasks.split(",") if part.strip())]
    if not opened_tasks:
        raise InputError("no task was named; `mplus eval list` shows them")
    names = None if systems is None else known_systems([name.strip() for name in systems.split(",") if name.strip()])
    _choice("--store", store, ("ram", "disk"))
    if twice := [name for name, count in Counter(task.task for task in opened_tasks).items() if count > 1]:
        raise InputError(f"two of the tasks are named '{twice[0]}'; run them one by one, each with its own --out")
    places = {task.task: out if len(opened_tasks) == 1 else out / task.task for task in opened_tasks}
    for place in places.values():
        _check_out(place, resume=resume, overwrite=overwrite)
    named = named_settings(
        distances=distances, lengths=lengths, distractors=distractors, per_passage=per_passage,
        max_answer_tokens=max_answer_tokens, nq_half=nq_half, tokens=tokens, seeds=None if seeds is None else seed_list(seeds),
    )  # fmt: skip
    settings = settings_for(opened_tasks, named, parse_set(set_ or []))
    sizes, variants = parse_sizes(set_geometry or []), parse_ablations(variant or [])
    for file in [*(data or []), *(haystack or []), *(distractors or [])]:
        if not file.exists():
            raise InputError(f"there is no file '{file}'; check the path")
    opened = open_model(model, dtype=dtype, device=device)
    inputs = file_digests([*(data or []), *(haystack or []), *(distractors or [])])
    adapter_digest = None if adapter is None else file_digests([adapter])[str(adapter)]
    plain = _plain_model(opened, adapter, [name for task in opened_tasks for name in (names or task.systems)])
    for task in opened_tasks:
        chosen = names or known_systems(list(task.systems))
        other = open_model(memoryllm_model, dtype=dtype, device=device) if memoryllm_model and "memoryllm" in chosen else None
        bench = _bench(opened, chosen, sizes, variants, other, plain, text_budget, places[task.task] if store == "disk" else None)
        told = {
            "data": [str(file) for file in data or []],
            "haystack": [str(file) for file in haystack or []],
            "limit": limit,
            "seed": seed,
            **settings[task.task].model_dump(mode="json"),
            "systems": chosen,
            "memoryllm_model": memoryllm_model,
            "plain_adapter": None if adapter is None else str(adapter),
            "plain_adapter_digest": adapter_digest,
            "store": store,
            "inputs": inputs,
        }
        if task.source is None and not data and not haystack:
            told["python"] = platform.python_version()  # whose own text is read
        job = _job(task, bench, settings[task.task], told, data or [], haystack or [], limit, seed, max_new_tokens)
        _run(job, places[task.task], resume=resume)


def _job(
    task: TaskFile,
    bench: SystemFactory,
    settings: Any,
    told: dict[str, Any],
    data: list[Path],
    haystack: list[Path],
    limit: int | None,
    seed: int,
    max_new_tokens: int | None,
) -> TaskRun:
    from mplus.evaluation.job import TaskRun
    from mplus.evaluation.schedule.stream import EvalStream
    from mplus.evaluation.scoring.metrics import METRICS
    from mplus.evaluation.tasks.builders import streams_of
    from mplus.evaluation.tasks.context import TaskContext

    model: Any = bench.model
    if task.measure != "likelihood" and getattr(model.tokenizer, "chat_template", None) is None:
        raise InputError(
            f"model '{model.name}' has no chat template, which the questions of '{task.task}' are asked in; give a model whose tokenizer has one"
        )
    material = TaskContext(
        task=task,
        encode=lambda text: model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"],
        chunk_tokens=task.chunk_tokens or bench.sizes.chunk_tokens,
        min_tokens=bench.sizes.min_write_tokens,
        data=data,
        haystack=haystack,
        limit=limit,
        seed=seed,
    )
    with terminal.waiting(f"{task.task}: planning what is read and asked"):
        streams = streams_of(task, settings, material)
    longest = max((stream.script.tokens for stream in streams if isinstance(stream.script, EvalStream)), default=0)
    if bench.model.geometry.ltm_capacity < longest:
        bench.geometry.setdefault("ltm_capacity", longest)
    _check_memories(bench, model)
    return TaskRun(
        task=task.task,
        bench=bench,
        streams=streams,
        metric=None if task.metric is None else METRICS[task.metric],
        measure=task.measure,
        max_new_tokens=max_new_tokens or task.generation.max_new_tokens,
        about={"version": task.version, "digest": task.digest, "title": task.title, "paper": task.paper},
        settings=told,
        left_out=material.left_out,
    )


def _bench(
    model: MPlusModel,
    systems: list[str],
    sizes: dict[str, Any],
    variants: list[Ablation],
    memoryllm: MPlusModel | None,
    plain: Any,
    text_budget: int | None,
    store: Path | None,
) -> SystemFactory:
    from mplus.evaluation.systems.factory import SystemFactory

    bench = SystemFactory(
        model=model,
        systems=systems,
        variants=variants,
        geometry=dict(sizes),
        memoryllm_model=memoryllm,
        plain_model=plain,
        text_budget=text_budget,
        store=None if store is None else store / "memory",
    )
    _check_memories(bench, model)
    return bench


def _plain_model(model: MPlusModel, adapter: Path | None, systems: list[str]) -> Any:
    from mplus.evaluation.systems.adapted import open_adapted
    from mplus.evaluation.systems.protocol import PLAIN

    return open_adapted(model, adapter) if adapter is not None and any(name in PLAIN for name in systems) else None


def _check_memories(bench: SystemFactory, model: MPlusModel) -> None:
    """Refuse what the model cannot do or hold before minutes of reading are spent on it."""
    from mplus.checkpoints.delta import check_fits

    varied = {variant.name for variant in bench.variants}
    for name, geometry in bench.geometries.items():
        try:
            model.writer.layout(model.writer.memory_format, geometry)
            check_fits(geometry, model.attached.decoder)
        except GeometryError as error:
            raise GeometryError(f"variant '{name}': {error}" if name in varied else str(error)) from None


def _check_out(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a place that cannot be written, or that holds a run nobody said may go."""
    check_place(out)
    if resume and overwrite:
        raise InputError("--resume keeps the run in --out and --overwrite replaces it; give one of them")
    if resume or overwrite:
        return
    if (out / "summary.json").exists():
        raise InputError(f"'{out}' holds a finished run; give another --out, or --overwrite to replace it")
    samples = out / "samples.jsonl"
    if samples.exists() and (count := samples.read_bytes().count(b"\n")):
        raise InputError(
            f"'{out}' holds an unfinished run with {count} samples; --resume goes on with it, --overwrite begins anew"
        )


def _choice(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InputError(f"{option} is '{given}', expected {' or '.join(known)}")


def _run(job: TaskRun, out: Path, *, resume: bool) -> None:
    if len(job.streams) <= _FEW_STREAMS:
        with terminal.stage_bar(
            {stream.name: (f"{stream.name}: reading and asking", "tokens") for stream in job.streams}
        ) as show:
            summary, paths = job.run(out, show, resume=resume)
    else:
        order = {stream.name: number for number, stream in enumerate(job.streams)}
        with terminal.stage_bar({job.task: (f"{job.task}: reading and asking", "texts")}) as show:
            total = len(order)
            summary, paths = job.run(
                out, lambda name, done, all_: show(job.task, order[name] + (done >= all_), total), resume=resume
            )
    terminal.mark_stored(out)
    show_summary(summary, job.left_out.lines(), paths)
