"""`mplus eval`: measure what a memory is worth; one command per task. Results go to a directory, a table to stdout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mplus.cli import terminal
from mplus.cli.demo import check_place, read_haystack
from mplus.cli.eval_report import report
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, ModelName, Verbose
from mplus.errors import GeometryError, InputError

if TYPE_CHECKING:
    from mplus.evaluation.bench import Bench
    from mplus.evaluation.job import Job
    from mplus.evaluation.summary import Summary
    from mplus.evaluation.variants import Variant
    from mplus.model import MPlusModel

app = typer.Typer(help="Measure what a memory is worth: accuracy over distance, against baselines.", no_args_is_help=True)
app.command("report")(report)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where summary.json, samples.jsonl, a picture and a table go.")]
Systems = Annotated[str, typer.Option("--systems", metavar="LIST", help="Of mplus, memoryllm, window (slow), passage.")]
Distances = Annotated[str | None, typer.Option("--distances", metavar="LIST", help="Tokens back, like 0,4k,16k,160k.")]
MemoryLLM = Annotated[
    str | None, typer.Option("--memoryllm-model", metavar="NAME", help="Weights trained as MemoryLLM; default: the model's own.")
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--passage-adapter",
        metavar="DIR",
        help="Adapter on the base, of PEFT or a delta's read adapter, for the system 'passage'.",
    ),
]
SetGeometry = Annotated[
    list[str] | None,
    typer.Option("--set-geometry", metavar="KEY=VALUE", help="A size of the memory: K0, N, M or a field's name. Repeatable."),
]
StoreKind = Annotated[str, typer.Option("--store", metavar="ram|disk", help="Where long-term memory lives; disk: below --out.")]
Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME:KEY=VALUE,...",
        help="A further M+ memory with a changed geometry, like k0-128:K0=128. Repeatable.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run in --out.")]
NewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")]


@app.command("retention")
def retention(
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Passages with questions: SQuAD JSON, or JSONL.")],
    out: Out,
    distractors: Annotated[
        list[Path] | None, typer.Option("--distractors", metavar="FILE", help="More text to read behind them. Repeatable.")
    ] = None,
    distances: Distances = "0,4k,16k,64k,160k",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Questions at each distance, at most.")] = 100,
    per_passage: Annotated[int, typer.Option("--questions-per-passage", min=1, help="At most.")] = 4,
    max_answer_tokens: Annotated[
        int | None, typer.Option("--max-answer-tokens", min=1, help="Leave longer answers out.", show_default="3, for NQ 4")
    ] = None,
    nq_half: Annotated[
        str, typer.Option("--nq-half", metavar="eval|all", help="NQ: only articles kept from training, or all.")
    ] = "eval",
    systems: Systems = "mplus,memoryllm",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of samples, their order and random drops.")] = 0,
    max_new_tokens: NewTokens = 10,
    set_geometry: SetGeometry = None,
    variant: Variants = None,
    memoryllm_model: MemoryLLM = None,
    passage_adapter: Adapter = None,
    store: StoreKind = "ram",
    overwrite: Overwrite = False,
    model: ModelName = DEFAULT_NAME,
    verbose: Verbose = False,
) -> None:
    """The paper's experiment: a passage, then text of other articles, then a question about the passage."""
    _check_out(out, overwrite)
    _choice("--nq-half", nq_half, ("eval", "all"))
    names, (sizes, variants) = _systems(systems), _memories(set_geometry, variant)
    from mplus.evaluation.distances import parse_distances
    from mplus.evaluation.job import Job, Stream
    from mplus.evaluation.passages import read_passages
    from mplus.evaluation.score import contains_answer
    from mplus.evaluation.tasks.retention import RetentionTask

    task = RetentionTask(
        data=read_passages(data),
        distractors=[read_passages(file) for file in distractors or []],
        distances=parse_distances(distances or ""),
        limit=limit,
        per_passage=per_passage,
        max_answer_tokens=max_answer_tokens,
        nq_half="all" if nq_half == "all" else "eval",
        seed=seed,
    )
    opened = open_model(model)
    bench = _bench(opened, names, sizes, variants, memoryllm_model, passage_adapter, store, out)
    with terminal.waiting("planning the stream"):
        scripts = task.scripts(_encoder(opened), chunk_tokens=bench.sizes.chunk_tokens, min_tokens=bench.sizes.min_write_tokens)
    streams = [Stream(name=f"pass {n} of {len(scripts)}", seed=seed, script=script) for n, script in enumerate(scripts, 1)]
    settings = {
        "data": str(data),
        "distractors": [str(file) for file in distractors or []],
        "distances": task.distances,
        "limit": limit,
        "questions_per_passage": per_passage,
        "max_answer_tokens": max_answer_tokens,
        "nq_half": nq_half,
        "systems": names,
        "memoryllm_model": memoryllm_model,
        "passage_adapter": None if passage_adapter is None else str(passage_adapter),
        "store": store,
        "seed": seed,
    }
    _run(
        Job(
            task="retention",
            bench=bench,
            streams=streams,
            is_right=contains_answer,
            max_new_tokens=max_new_tokens,
            settings=settings,
        ),
        out,
    )


@app.command("facts")
def facts(
    out: Out,
    haystack: Annotated[
        list[Path] | None,
        typer.Option(
            "--haystack", metavar="FILE", help="UTF-8 text to read. Repeatable.", show_default="what every Python carries"
        ),
    ] = None,
    distances: Annotated[
        str | None,
        typer.Option("--distances", metavar="LIST", help="Tokens back.", show_default="1k,2k,4k ... up to --tokens"),
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Largest distance.", show_default="160000")] = None,
    questions: Annotated[int, typer.Option("--questions", min=1, help="Questions at each distance, for each seed.")] = 128,
    seeds: Annotated[str, typer.Option("--seeds", metavar="LIST", help="One stream each, like 0,1,2.")] = "0",
    systems: Systems = "mplus,memoryllm",
    max_new_tokens: NewTokens = 10,
    set_geometry: SetGeometry = None,
    variant: Variants = None,
    memoryllm_model: MemoryLLM = None,
    passage_adapter: Adapter = None,
    store: StoreKind = "ram",
    overwrite: Overwrite = False,
    model: ModelName = DEFAULT_NAME,
    verbose: Verbose = False,
) -> None:
    """Generated facts in running text, asked at many distances as the stream goes by."""
    _check_out(out, overwrite)
    names, (sizes, variants), wanted_seeds = _systems(systems), _memories(set_geometry, variant), _seeds(seeds)
    from mplus.corpus.text import read_text
    from mplus.evaluation.distances import parse_distances, within
    from mplus.evaluation.job import Job, Stream
    from mplus.evaluation.score import contains_value
    from mplus.evaluation.tasks import facts as task

    if distances is None:
        wanted = within(task.DEFAULT_DISTANCES, tokens or task.DEFAULT_TOKENS)
    else:
        wanted = parse_distances(distances, smallest=task.SMALLEST_DISTANCE)
        wanted = within(wanted, tokens) if tokens else wanted
    if not wanted:
        raise InputError(f"no distance is left within {tokens} tokens; raise --tokens or name smaller --distances")
    text = "\n\n".join(map(read_text, haystack)) if haystack else read_haystack(None)
    opened = open_model(model)
    with terminal.waiting("planning the streams"):
        streams = []
        for seed in wanted_seeds:
            made = task.FactsTask(haystack=text, distances=wanted, questions=questions, seed=seed).scripts(
                _encoder(opened), chunk_tokens=opened.geometry.chunk_tokens, min_tokens=opened.geometry.min_write_tokens
            )
            streams += [Stream(name=f"seed {seed}", seed=seed, script=script) for script in made]
    longest = max(stream.script.tokens for stream in streams)
    if opened.geometry.ltm_capacity < longest:
        sizes.setdefault("ltm_capacity", longest)
    bench = _bench(opened, names, sizes, variants, memoryllm_model, passage_adapter, store, out)
    settings = {
        "haystack": [str(file) for file in haystack or []],
        "distances": wanted,
        "questions": questions,
        "seeds": wanted_seeds,
        "systems": names,
        "memoryllm_model": memoryllm_model,
        "passage_adapter": None if passage_adapter is None else str(passage_adapter),
        "store": store,
    }
    job = Job(
        task="facts",
        bench=bench,
        streams=streams,
        is_right=lambda given, answers: any(contains_value(given, value) for value in answers),
        max_new_tokens=max_new_tokens,
        settings=settings,
    )
    _run(job, out)


def _systems(text: str) -> list[str]:
    from mplus.evaluation.bench import known_systems

    return known_systems([name.strip() for name in text.split(",") if name.strip()])


def _memories(set_geometry: list[str] | None, variants: list[str] | None) -> tuple[dict[str, Any], list[Variant]]:
    """Sizes to replace in the measured memory, and the further memories."""
    from mplus.evaluation.variants import parse_sizes, parse_variants

    return parse_sizes(set_geometry or []), parse_variants(variants or [])


def _check_out(out: Path, overwrite: bool) -> None:
    """Refuse a place that cannot be written, or that holds a finished run nobody said may go."""
    check_place(out)
    if not overwrite and (out / "summary.json").exists():
        raise InputError(f"'{out}' holds a finished run; give another --out, or --overwrite to replace it")


def _seeds(text: str) -> list[int]:
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entry.isdigit() for entry in entries):
        raise InputError(f"seeds are '{text}', expected whole numbers like 0,1,2")
    return list(dict.fromkeys(map(int, entries)))


def _choice(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InputError(f"{option} is '{given}', expected {' or '.join(known)}")


def _bench(
    model: MPlusModel,
    systems: list[str],
    sizes: dict[str, Any],
    variants: list[Variant],
    memoryllm_model: str | None,
    adapter: Path | None,
    store: str,
    out: Path,
) -> Bench:
    from mplus.evaluation.bench import Bench
    from mplus.evaluation.plain import open_adapted

    _choice("--store", store, ("ram", "disk"))
    bench = Bench(
        model=model,
        systems=systems,
        variants=variants,
        geometry=sizes,
        memoryllm_model=open_model(memoryllm_model) if memoryllm_model and "memoryllm" in systems else None,
        passage_model=open_adapted(model, adapter) if adapter is not None and "passage" in systems else None,
        store=out / "memory" if store == "disk" else None,
    )
    _check_memories(bench, model)
    return bench


def _check_memories(bench: Bench, model: MPlusModel) -> None:
    """Refuse what the model cannot do or hold before minutes of reading are spent on it."""
    from mplus.checkpoints.adapted import check_fits

    varied = {variant.name for variant in bench.variants}
    for name, geometry in bench.geometries.items():
        try:
            model.layout(model.memory_format, geometry)
            check_fits(geometry, model.attached.decoder)
        except GeometryError as error:
            raise GeometryError(f"variant '{name}': {error}" if name in varied else str(error)) from None


def _encoder(model: MPlusModel) -> Any:
    return lambda text: model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _run(job: Job, out: Path) -> None:
    with terminal.stage_bar({stream.name: (f"{stream.name}: reading and asking", "tokens") for stream in job.streams}) as show:
        summary, paths = job.run(out, show)
    _show(summary, paths)


def _show(summary: Summary, paths: list[Path]) -> None:
    from mplus.evaluation.summary import RETRIEVAL

    console = terminal.results()
    tables = [(f"{summary.task}, share answered right [95 %]", summary.rows()), (RETRIEVAL, summary.retrieval_rows())]
    for title, (headings, rows) in tables:
        if len(headings) > 1:
            table = terminal.table(*headings, title=f"{escape(summary.model)}: {title}")
            for row in rows:
                table.add_row(*map(escape, row))
            console.print(table)
    context = summary.context
    read, seconds = sum(context["tokens_read"].values()), context["seconds_of"]
    console.print(
        f"\nread {read:,} tokens in {seconds['read']:.0f} s, gave {len(summary.samples):,} answers in "
        f"{context['seconds'] - seconds['read']:.0f} s",
        soft_wrap=True,
    )
    for path in paths:
        console.print(str(path), markup=False, soft_wrap=True)
