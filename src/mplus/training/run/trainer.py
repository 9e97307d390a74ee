"""The steps of a run: forward, backward, optimiser, log, checkpoint. Knows tasks by their interface, no model and no data."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mplus.errors import TrainingError
from mplus.runtime.extras import can_draw
from mplus.training.objectives.task import StepOutput, Task
from mplus.training.run import sharding
from mplus.training.run.checkpoint import Checkpoint, newest, write_checkpoint
from mplus.training.run.curves import draw_curves
from mplus.training.run.metrics_log import LINES, Callback, LogRecord, MetricsLog, read_log, record_of
from mplus.training.run.optimiser import lr_factor, make_optimiser, named_parameters
from mplus.training.run.processes import gathered, on_main
from mplus.training.run.random_state import random_state, set_random_state
from mplus.training.run.recipe import Recipe
from mplus.training.run.signals import StopRequest

log = logging.getLogger(__name__)

CHECKPOINTS, DELTA, CURVES = "checkpoints", "delta", "curves.png"


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        reason: "done", or the name of the signal that stopped it.
        checkpoint: the last one.
        delta: directory of what was trained.
        line: the last line of the log, if there is one.
    """

    reason: Literal["done"] | str
    step: int
    seconds: float
    checkpoint: Path | None
    delta: Path
    line: LogRecord | None


@dataclass
class Window:
    """Sums since the last line of the log; `metrics` are this process' own, all else is of all processes together."""

    loss: float = 0.0
    samples: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    metrics: dict[str, tuple[float, float]] | None = None

    def add(self, outcome: StepOutput) -> None:
        """Take the metrics of a forward pass."""
        known = self.metrics = {} if self.metrics is None else self.metrics
        for name, (total, count) in outcome.metrics.items():
            before = known.get(name, (0.0, 0.0))
            known[name] = (before[0] + float(total), before[1] + float(count))


class Trainer:
    """One run of a task, from its first or a stored step to its end.

    Gradients are exact means over the samples of a step, however they are spread over micro-batches and processes: each
    process adds up ``loss * samples``, and the sums are divided by all samples once.

    Args:
        place: directory of the run.
        before: checkpoint to go on from.
    """

    def __init__(
        self, recipe: Recipe, task: Task, accelerator: Accelerator, place: Path, *, before: Checkpoint | None, callback: Callback
    ) -> None:
        self.recipe, self.task, self.accelerator, self.place, self.callback = recipe, task, accelerator, place, callback
        groups = task.groups()
        trained = named_parameters(groups)
        sharding.register(task, trained)
        paths = sharding.paths_of(task, trained)
        optimiser = make_optimiser(recipe.optimiser, groups)
        self.module: nn.Module
        self.module, self.optimiser = accelerator.prepare(task, optimiser)
        self.trained = sharding.parameters_at(accelerator.unwrap_model(self.module), paths)
        self.step, self.elapsed_s = 0, 0.0
        self.window = Window()
        self.line: LogRecord | None = None
        self.stored: Path | None = None
        if before is not None:
            self._restore(before)
        self.journal = MetricsLog(place, self.step) if accelerator.is_main_process else None

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        by_steps = self.step / self.recipe.steps if self.recipe.steps else 0.0
        by_time = self.elapsed_s / (60 * self.recipe.minutes) if self.recipe.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(value.numel() for value in self.trained.values())

    def run(self) -> RunResult:
        """Train to the end, or to the step in which a signal comes.

        Raises:
            TrainingError: a loss, gradient or parameter is not finite, or something cannot be stored.
        """
        started, before_s = time.monotonic(), self.elapsed_s
        reason: str = "done"
        try:
            with StopRequest() as wish:
                while self.progress < 1.0:
                    stop = self._step(lambda: before_s + time.monotonic() - started, wish)
                    every = self.recipe.save_every
                    if every and self.step % every == 0 and self.progress < 1.0 and not stop:
                        self._save()
                    if stop:
                        reason = wish.received or "another process"
                        break
                self._save()
        finally:
            if self.journal is not None:
                self.journal.close()
        return RunResult(reason, self.step, self.elapsed_s, self.stored, self.place / DELTA, self.line)

    # -- one step --------------------------------------------------------------------------------------------------

    def _step(self, clock: Any, wish: StopRequest) -> bool:
        """One optimiser step; returns whether any process was asked to stop."""
        began = time.monotonic()
        factor = lr_factor(self.recipe.schedule, self.step, self.progress)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * factor
        loss, samples, tokens = self._gradients()
        main = self.accelerator.is_main_process
        own = [loss, samples, tokens, clock() if main else 0.0, float(wish.received is not None)]
        total = torch.tensor(own, dtype=torch.float64, device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            total = self.accelerator.reduce(total, "sum")
        loss, samples, tokens, self.elapsed_s, stop = total.tolist()
        assert samples > 0, "a batch without samples"
        self._check_loss(loss)
        norm = self._apply(samples)
        self.step += 1
        self.task.finish_step(self.progress)
        self.window.loss += loss
        self.window.samples += samples
        self.window.tokens += tokens
        self.window.seconds += time.monotonic() - began
        self._tell(norm)
        alone = self.accelerator.num_processes == 1
        return bool(stop > 0) or (alone and wish.received is not None)  # several must agree, one step later if need be

    def _gradients(self) -> tuple[float, float, float]:
        """Gradients of the sum over this process' samples; returns that sum, samples and tokens."""
        loss = samples = tokens = 0.0
        processes, last = self.accelerator.num_processes, self.recipe.accumulation - 1
        for micro in range(self.recipe.accumulation):
            share = self.task.shard(self.task.draw(), self.accelerator.process_index, processes)
            with self._alone(micro < last):
                outcome: StepOutput = self.module(share)
                self.accelerator.backward(outcome.loss.float() * outcome.samples)
            loss += outcome.loss.item() * outcome.samples
            samples += outcome.samples
            tokens += outcome.tokens
            self.window.add(outcome)
        return loss, samples, tokens

    @contextmanager
    def _alone(self, alone: bool) -> Iterator[None]:
        """Whether gradients stay on this process, for all micro-steps but the last."""
        if alone:
            with self.accelerator.no_sync(self.module):
                yield
        else:
            yield

    def _apply(self, samples: float) -> float:
        """Optimiser step on the mean gradient; returns its norm before clipping."""
        share = self.accelerator.num_processes / samples  # processes' gradients were averaged, their samples are counted
        with torch.no_grad():
            for value in self.trained.values():
                if value.grad is not None:
                    value.grad.mul_(share)
        self._check("the gradient of {}", {name: value.grad for name, value in self.trained.items()})
        limit = self.recipe.optimiser.clip
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), math.inf if limit is None else limit)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._check("parameter {}", self.trained)
        return float(sharding.whole(norm)) if norm is not None else math.nan

    # -- numbers that are not finite -------------------------------------------------------------------------------

    def _check_loss(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        self._check("parameter {}", self.trained)
        bad = self._first_bad({name: value.grad for name, value in self.trained.items()})
        extra = f" (first gradient that is not finite: {bad})" if bad else ""
        self._refuse(f"the loss is {loss}{extra}")

    def _check(self, what: str, values: dict[str, Any]) -> None:
        bad = self._first_bad(values)
        if bad is not None:
            self._refuse(f"{what.format(bad)} is not finite")

    def _first_bad(self, values: dict[str, Any]) -> str | None:
        """The first tensor with NaN or infinity; one number per tensor crosses from the device, all at once."""
        names = [name for name, value in values.items() if value is not None]
        if not names:
            return None
        with torch.no_grad():
            sums = torch.stack([sharding.whole(values[name].detach().abs().sum(dtype=torch.float32)).cpu() for name in names])
        finite = torch.isfinite(sums)
        return None if bool(finite.all()) else names[int((~finite).nonzero()[0])]

    def _refuse(self, fault: str) -> None:
        good = newest(self.place / CHECKPOINTS)
        kept = f"the last good checkpoint is {good}" if good else "there is no checkpoint yet"
        raise TrainingError(
            f"step {self.step + 1}: {fault}; nothing was overwritten, {kept}; "
            "lower optimiser.lr or optimiser.clip, or look at the data of that step"
        )

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell(self, norm: float) -> None:
        window = self.window
        lr = self.optimiser.param_groups[0]["lr"]
        pace = window.tokens / window.seconds if window.seconds else 0.0
        metrics = self.line.metrics if self.line is not None else {}
        line = LogRecord(self.step, self.elapsed_s, self.progress, window.loss / window.samples, lr, norm, pace, metrics)
        if self.step % self.recipe.log_every == 0 or self.progress >= 1.0:
            line = LogRecord(**{**vars(line), "metrics": self._metrics()})
            self.window, self.line = Window(), line
            if self.journal is not None:
                self.journal.write(line)
                self.callback.on_log(line)
        if self.accelerator.is_main_process:
            self.callback.on_step(line)

    def _metrics(self) -> dict[str, float]:
        sums: dict[str, tuple[float, float]] = {}
        for own in gathered([self.window.metrics or {}], self.accelerator):
            for name, (total, count) in own.items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in sorted(sums.items()) if count}

    # -- storing ---------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Checkpoint, delta and curves, unless this step has them already."""
        if self.stored is not None and self.stored.name == f"step-{self.step:06d}":
            return
        state: Any = self.optimiser.state
        moments = {
            name: {key: _tensor(kept) for key, kept in state[value].items()}
            for name, value in self.trained.items()
            if value in state
        }
        checkpoint = Checkpoint(
            step=self.step,
            elapsed_s=self.elapsed_s,
            recipe=self.recipe.resolved(),
            parameters={name: sharding.whole(value.detach()) for name, value in self.trained.items()},
            optimiser=moments,
            randomness=gathered([random_state()], self.accelerator),
            task=self.task.state(),
            journal={"windows": gathered([vars(self.window)], self.accelerator), "line": self.line and vars(self.line)},
        )
        with sharding.unsharded(self.module), on_main(self.accelerator, "store its checkpoint") as main:
            if main:
                self.stored = write_checkpoint(self.place / CHECKPOINTS, checkpoint, self.recipe.keep)
                self.task.save(self.place / DELTA)
                self._draw()

    def _draw(self) -> None:
        lines = read_log(self.place / LINES)
        if lines and can_draw():
            draw_curves(lines, self.place / CURVES, title=f"{self.recipe.name}, step {self.step}")

    def _restore(self, before: Checkpoint) -> None:
        state: Any = self.optimiser.state
        if before.parameters.keys() != self.trained.keys():
            odd = sorted(before.parameters.keys() ^ self.trained.keys())
            raise TrainingError(f"the checkpoint of step {before.step} trains other parameters ({odd[0]}, ...); start a new run")
        with torch.no_grad():
            for name, value in self.trained.items():
                value.copy_(sharding.like(before.parameters[name], value))
                if name in before.optimiser:
                    state[value] = {key: sharding.like(kept, value) for key, kept in before.optimiser[name].items()}
        self.task.load_state(before.task)
        self.step, self.elapsed_s = before.step, before.elapsed_s
        own = self.accelerator.process_index if self.accelerator.process_index < len(before.randomness) else 0
        if len(before.randomness) != self.accelerator.num_processes:
            log.warning(
                "the checkpoint is of %d processes, now there are %d", len(before.randomness), self.accelerator.num_processes
            )
        else:
            self.window = Window(**before.journal["windows"][own])
        if before.journal["line"] is not None:
            self.line = record_of(before.journal["line"])
        self.stored = newest(self.place / CHECKPOINTS)
        set_random_state(before.randomness[own])


def _tensor(value: Any) -> Tensor:
    return sharding.whole(value) if isinstance(value, Tensor) else torch.tensor(value)
