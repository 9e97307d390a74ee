"""A whole training run, from recipe to delta: place, processes, model, task, loop. Knows how they meet, not what they do."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs, set_seed

from mplus.errors import TrainingError
from mplus.model import MPlusModel
from mplus.runtime.dtypes import resolve_dtype
from mplus.runtime.environment import environment_of
from mplus.training.objectives import registry
from mplus.training.objectives.task import Task
from mplus.training.run.checkpoint import Checkpoint, clear_leftovers, newest, read_checkpoint
from mplus.training.run.metrics_log import LINES, Callback
from mplus.training.run.processes import on_main
from mplus.training.run.recipe import Recipe, first_difference, modern
from mplus.training.run.recipe_file import write_recipe
from mplus.training.run.starting_model import open_model
from mplus.training.run.trainer import CHECKPOINTS, DELTA, RunResult, Trainer

log = logging.getLogger(__name__)

RECIPE, CIRCUMSTANCES = "recipe.yaml", "circumstances.json"


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        groups: name, numbers and full learning rate of each parameter group.
    """

    groups: list[tuple[str, int, float]]
    steps: int | None
    minutes: float | None

    @property
    def count(self) -> int:
        """How many numbers would be trained."""
        return sum(count for _, count, _ in self.groups)


def run(recipe: Recipe, *, resume: bool = False, callback: Callback | None = None) -> RunResult:
    """Train as `recipe` says and store log, checkpoints and delta in its directory.

    Args:
        resume: go on from the newest checkpoint in the directory.
        callback: observer of the run; the main process' only.

    Raises:
        TrainingError: too few processes, a directory that holds another run, no checkpoint to go on from, a checkpoint of
            another recipe, numbers that are not finite, or something cannot be stored.
        MPlusError: the model or the task's data cannot be opened.
    """
    callback = callback or Callback()
    place = Path(recipe.directory)
    _check_processes(recipe)
    before = _before(place, recipe) if resume else None
    if before is None:
        _check_free(place)
    with _accelerator(recipe) as accelerator:
        accelerator.wait_for_everyone()  # all have looked at the directory before one of them fills it
        task, model = _made(recipe, accelerator.device, callback)
        with on_main(accelerator, "store the run's settings") as main:
            if main:
                _prepare_place(place, recipe, model, accelerator)
        if before is None:
            callback.on_begin("set-up")
            task.prepare()
        with _checkpointing(model, recipe.gradient_checkpointing):
            loop = Trainer(recipe, task, accelerator, place, before=before, callback=callback)
            callback.on_begin(
                f"training {loop.count:,} parameters, from step {loop.step}"
                if loop.step
                else f"training {loop.count:,} parameters"
            )
            return loop.run()


def plan(recipe: Recipe) -> Plan:
    """Open model and task without training them.

    Raises:
        MPlusError: they cannot be opened.
    """
    task, _ = _made(recipe, torch.device("cpu"), Callback())
    lr = recipe.optimiser.lr
    groups = [(group.name, sum(value.numel() for _, value in group.parameters), lr * group.lr_factor) for group in task.groups()]
    return Plan(groups, recipe.steps, recipe.minutes)


def _made(recipe: Recipe, device: torch.device, callback: Callback) -> tuple[Task, MPlusModel]:
    set_seed(recipe.seed)
    callback.on_begin(f"opening {recipe.model.base or recipe.model.start or 'random weights'}")
    model = open_model(recipe, device)
    callback.on_begin(f"opening the data of task {recipe.task.kind}")
    return registry.build(recipe.task.kind, model, recipe.task.settings, recipe.seed), model


def _check_processes(recipe: Recipe) -> None:
    """Tell too few processes before anything is opened."""
    running = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.processes is not None and running < recipe.processes:
        raise TrainingError(
            f"the recipe asks for {recipe.processes} processes, {running} {'is' if running == 1 else 'are'} running; start it with "
            f"`accelerate launch --num_processes {recipe.processes} -m mplus train ...` (on CPUs `torchrun --nproc-per-node "
            f"{recipe.processes} -m mplus train ...`), or set processes to null"
        )


def _check_free(place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise TrainingError(f"{place} is a file, a run needs a directory; choose another with --out")
    held = [name for name in (CHECKPOINTS, RECIPE, LINES, DELTA) if (place / name).exists()]
    if held:
        last = newest(place / CHECKPOINTS)
        state = f"up to {last.name}" if last else f"({held[0]})"
        raise TrainingError(f"{place} holds a run already {state}; go on with it by --resume, or choose another place with --out")


def _before(place: Path, recipe: Recipe) -> Checkpoint:
    path = newest(place / CHECKPOINTS)
    if path is None:
        raise TrainingError(f"there is no checkpoint to resume in {place / CHECKPOINTS}; start the run without --resume")
    found = read_checkpoint(path)
    difference = first_difference(modern(found.recipe, str(path)), recipe.resolved())
    if difference is not None:
        raise TrainingError(
            f"checkpoint {path} is of another recipe: {difference}; go on with the recipe in {place / RECIPE}, "
            "or start a new run in another place with --out"
        )
    return found


def _precision(recipe: Recipe) -> str:
    """The recipe's, `auto` decided."""
    if recipe.precision != "auto":
        return recipe.precision
    device = torch.device("cuda" if torch.cuda.is_available() and recipe.model.device in ("auto", "cuda") else "cpu")
    return "bf16" if resolve_dtype("auto", device) is torch.bfloat16 else "no"


@contextmanager
def _accelerator(recipe: Recipe) -> Iterator[Accelerator]:
    """Accelerate's state for one run. It is global and cannot be changed, so it is let go of afterwards: the next run of this
    program may want another precision."""
    try:
        accelerator = Accelerator(
            mixed_precision=_precision(recipe),
            cpu=recipe.model.device == "cpu",
            kwargs_handlers=[
                # A weight that autocast first met under no_grad (choosing what to read) would be cached without its gradient.
                AutocastKwargs(cache_enabled=False),
                DistributedDataParallelKwargs(find_unused_parameters=True),
            ],
        )
    except (ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"training cannot be set up here: {first}; check precision, processes and accelerate's configuration"
        ) from None
    try:
        yield accelerator
    finally:
        accelerator.free_memory()
        if accelerator.num_processes == 1:
            AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def _checkpointing(model: MPlusModel, wanted: bool) -> Iterator[None]:
    """Layers computed again in the backward pass; transformers does that in training mode only."""
    decoder: Any = model.parts.decoder.model
    if not wanted:
        yield
        return
    new = hasattr(decoder, "activation_checkpointing_enable")  # transformers 5.23 renamed the pair, version 6 drops the old names
    stem = "activation_checkpointing" if new else "gradient_checkpointing"
    getattr(decoder, f"{stem}_enable")({"use_reentrant": False})
    decoder.train()
    try:
        yield
    finally:
        decoder.eval()
        getattr(decoder, f"{stem}_disable")()


def _prepare_place(place: Path, recipe: Recipe, model: MPlusModel, accelerator: Accelerator) -> None:
    """Directory, resolved recipe and environment of this part of the run."""
    versions, hardware = environment_of(model.dtype)
    part = {
        "versions": versions,
        "hardware": {**hardware, "processes": accelerator.num_processes, "device": str(accelerator.device)},
    }
    try:
        place.mkdir(parents=True, exist_ok=True)
        clear_leftovers(place / CHECKPOINTS)
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        (place / RECIPE).write_text(f"# mplus train; {named}\n{write_recipe(recipe.resolved())}", encoding="utf-8")
        parts = _parts(place / CIRCUMSTANCES)
        (place / CIRCUMSTANCES).write_text(json.dumps([*parts, part], indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"the run cannot be stored in {place}: {error.strerror}; choose another place with --out") from None


def _parts(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, list) else []
    except (OSError, json.JSONDecodeError):
        return []
