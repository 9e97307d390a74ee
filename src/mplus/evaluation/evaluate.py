"""One evaluation: a task, a model and options in, a summary out. The command line and everything else runs tasks through here.

Knows which parts a run is put together from; brings torch only when a run is planned.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mplus.errors import GeometryError, InputError
from mplus.evaluation.ablations import Ablation
from mplus.evaluation.systems.protocol import PLAIN, known_systems
from mplus.evaluation.tasks.builders import settings_of, streams_of
from mplus.evaluation.tasks.context import TaskContext, file_digests
from mplus.evaluation.tasks.task_file import TaskFile, open_task
from mplus.text.literal import literal_ids

if TYPE_CHECKING:
    from mplus.evaluation.report.summary import Summary
    from mplus.evaluation.schedule.stream_run import Hooks
    from mplus.evaluation.systems.factory import SystemFactory
    from mplus.evaluation.task_run import TaskRun

MOST_TOKENS = 10_000_000
"""Of one text, answer or size that is given."""


class Options(BaseModel):
    """Options of a run beside task and model.

    Attributes:
        out: directory of the results.
        data: the task's data; empty: its source.
        haystack: texts or directories of texts to hide things in; empty: what every Python carries.
        limit: questions of a table row at most; None: the task's own.
        seed: of samples, their order, what is generated, and random drops.
        settings: of the task, beside those of its file.
        systems: who answers; None: the task's own.
        max_new_tokens: longest answer; None: the task's own.
        text_budget: tokens of text that ``window`` and ``bm25`` may see; None: what fits, and N + K0.
        geometry: sizes of the memory that differ from the model's.
        ablations: further M+ memories.
        memoryllm_model: name of weights trained as MemoryLLM; None: the model's own.
        source_tokens: text tokens of one source, whose chunks see nothing of others; None: a stream is one source.
        plain_adapter: directory of an adapter on the base, for systems that get text.
        store: where long-term memory lives; "disk": below ``out``.
        if_exists: what becomes of a run in ``out``.
        open_model: opens a model by its name; None: as the measured one was opened.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    out: Path
    data: tuple[Path, ...] = ()
    haystack: tuple[Path, ...] = ()
    limit: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    settings: dict[str, Any] = Field(default_factory=dict)
    systems: tuple[str, ...] | None = None
    max_new_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    text_budget: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    geometry: dict[str, Any] = Field(default_factory=dict)
    ablations: tuple[Ablation, ...] = ()
    memoryllm_model: str | None = None
    source_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    plain_adapter: Path | None = None
    store: Literal["ram", "disk"] = "ram"
    if_exists: Literal["refuse", "resume", "overwrite"] = "refuse"
    open_model: Callable[[str], Any] | None = None

    @property
    def files(self) -> list[Path]:
        """All files and directories that were named."""
        distractors = self.settings.get("distractors", ())
        return [*self.data, *self.haystack, *map(Path, [distractors] if isinstance(distractors, str) else distractors)]


def evaluate(task: TaskFile | str, model: Any, options: Options, hooks: Hooks | None = None) -> Summary:
    """Run a task: every stream is read by fresh memories, answers are stored as they are given, the summary with tables and picture.

    Args:
        task: its name, the path of a YAML file, or the open file.
        model: an ``MPlusModel``.
        hooks: called on the way.

    Raises:
        InputError: an option is wrong, the data are missing or wrong, or ``options.out`` holds a run that is not to be touched.
    """
    opened = open_task(task) if isinstance(task, str) else task
    check(opened, options)
    return plan(opened, model, options).run(options.out, hooks, resume=options.if_exists == "resume")


def check(task: TaskFile, options: Options) -> None:
    """Refuse what can be told before a model is opened."""
    check_out(options.out, options.if_exists)
    settings_of(task, options.settings)
    for file in options.files:
        if not file.exists():
            raise InputError(f"there is no file '{file}'; check the path")


def plan(task: TaskFile, model: Any, options: Options) -> TaskRun:
    """Everything of a run but the running: its streams are laid out, its systems can be made."""
    from mplus.evaluation.schedule.stream import EvalStream
    from mplus.evaluation.scoring.metrics import METRICS
    from mplus.evaluation.task_run import TaskRun

    if task.measure != "likelihood" and getattr(model.tokenizer, "chat_template", None) is None:
        raise InputError(
            f"model '{model.name}' has no chat template, which the questions of '{task.task}' are asked in; give a model whose tokenizer has one"
        )
    settings, factory = settings_of(task, options.settings), _factory(task, model, options)
    _check_memories(factory)
    context = TaskContext(
        task=task,
        encode=lambda text: literal_ids(model.tokenizer, text),
        cut=model.cut,
        chunk_tokens=task.chunk_tokens or factory.measured.sizes.chunk_tokens,
        min_tokens=factory.measured.sizes.min_write_tokens,
        data=options.data,
        haystack=options.haystack,
        limit=options.limit,
        seed=options.seed,
    )
    streams = streams_of(task, settings, context)
    longest = max((one.script.tokens for one in streams if isinstance(one.script, EvalStream)), default=0)
    if model.geometry.sizes.ltm_capacity < longest:
        factory.geometry.setdefault("ltm_capacity", longest)
        _check_memories(factory)
    return TaskRun(
        task=task.task,
        factory=factory,
        streams=streams,
        metric=None if task.metric is None else METRICS[task.metric],
        measure=task.measure,
        max_new_tokens=options.max_new_tokens or task.generation.max_new_tokens,
        about={"version": task.version, "digest": task.digest, "title": task.title, "paper": task.paper},
        settings=_stored(task, options, settings.model_dump(mode="json"), list(factory.systems)),
        left_out=context.left_out,
    )


def _factory(task: TaskFile, model: Any, options: Options) -> SystemFactory:
    from mplus.evaluation.systems.adapted import open_adapted
    from mplus.evaluation.systems.factory import SystemFactory

    systems = known_systems(list(options.systems or task.systems))
    memoryllm = plain = None
    if options.memoryllm_model and "memoryllm" in systems:
        memoryllm = (options.open_model or _opener(model))(options.memoryllm_model)
    if options.plain_adapter is not None and any(name in PLAIN for name in systems):
        plain = open_adapted(model, options.plain_adapter)
    return SystemFactory(
        model=model,
        systems=systems,
        ablations=options.ablations,
        geometry=dict(options.geometry),
        memoryllm_model=memoryllm,
        plain_model=plain,
        text_budget=options.text_budget,
        source_tokens=options.source_tokens,
        store=options.out / "memory" if options.store == "disk" else None,
    )


def _opener(model: Any) -> Callable[[str], Any]:
    return lambda name: type(model).from_pretrained(name, dtype=model.dtype, device=model.device)


def _stored(task: TaskFile, options: Options, settings: dict[str, Any], systems: list[str]) -> dict[str, Any]:
    """Settings as ``run.json`` has them."""
    adapter = options.plain_adapter
    stored = {
        "data": [str(file) for file in options.data],
        "haystack": [str(file) for file in options.haystack],
        "limit": options.limit,
        "seed": options.seed,
        **settings,
        "systems": systems,
        "memoryllm_model": options.memoryllm_model,
        "plain_adapter": None if adapter is None else str(adapter),
        "plain_adapter_digest": None if adapter is None else file_digests([adapter])[str(adapter)],
        "store": options.store,
        **({} if options.source_tokens is None else {"source_tokens": options.source_tokens}),
        "inputs": file_digests(options.files),
    }
    if task.source is None and not options.data and not options.haystack:
        stored["python"] = platform.python_version()  # whose own text is read
    return stored


def _check_memories(factory: SystemFactory) -> None:
    """Refuse what the model cannot do or hold before minutes of reading are spent on it."""
    from mplus.checkpoints.memory_parts import check_fits

    model: Any = factory.model
    ablations = {one.name for one in factory.ablations}
    for name, geometry in factory.geometries.items():
        try:
            model.writer.layout(model.writer.memory_format, geometry)
            check_fits(geometry, model.parts.decoder)
        except GeometryError as error:
            raise GeometryError(f"variant '{name}': {error}" if name in ablations else str(error)) from None


def check_place(out: Path) -> None:
    """Refuse a place where results cannot be stored before minutes of computing are spent on them."""
    nearest = next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise InputError(f"results cannot be stored in '{out}': {nearest} is a file; give another directory with --out")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"results cannot be stored in '{out}': {nearest} may not be written; give another directory with --out")


def check_out(out: Path, if_exists: str) -> None:
    """Refuse a place that cannot be written, or that holds a run nobody said may go."""
    check_place(out)
    if if_exists != "refuse":
        return
    if (out / "summary.json").exists():
        raise InputError(f"'{out}' holds a finished run; give another --out, or --overwrite to replace it")
    samples = out / "samples.jsonl"
    if samples.exists() and (count := samples.read_bytes().count(b"\n")):
        raise InputError(
            f"'{out}' holds an unfinished run with {count} samples; --resume goes on with it, --overwrite begins anew"
        )
