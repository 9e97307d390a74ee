"""Interface of an objective with its own data and random state. The loop knows nothing else about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: the recipe's rate times `lr_factor`.

    Attributes:
        parameters: state-dict-like names and parameters, so that a NaN can be reported by name.
    """

    name: str
    parameters: list[tuple[str, nn.Parameter]]
    lr_factor: float = 1.0
    weight_decay: float | None = None  # None: the recipe's


@dataclass
class StepOutput:
    """Loss and metrics of a forward pass over a batch or a shard of it.

    Attributes:
        loss: scalar, the mean over this shard's samples; gradients flow from here.
        samples: how many samples the mean is over, so that shards of unequal size average right.
        tokens: tokens that went through the model, for tokens/s.
        metrics: name to (sum, count), e.g. ``{"recall": (27.0, 32.0)}``; the loop shows means over recent steps.
    """

    loss: Tensor
    samples: int
    tokens: int
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)


class Task(nn.Module, ABC):
    """An objective. Holds the model; ``forward`` is what the loop wraps for several processes.

    The order of calls: ``prepare`` once, then per micro-step ``draw`` -> ``shard`` -> ``forward``; ``finish_step`` after
    each optimiser step. Two tasks made alike and given equal states behave alike bit for bit on one machine.
    """

    @abstractmethod
    def groups(self) -> list[ParameterGroup]:
        """Parameters that are trained; called once, after ``__init__`` has made everything trainable that should be."""

    def prepare(self) -> None:
        """Slow set-up before the first step (first bank of memories); not called when a run resumes."""

    @abstractmethod
    def draw(self) -> Any:
        """The next batch of all processes together; advances the task's random state, alike on every process."""

    @abstractmethod
    def shard(self, batch: Any, process: int, processes: int) -> Any:
        """The part of a batch that one process computes."""

    @abstractmethod
    def forward(self, batch: Any) -> StepOutput:
        """Loss and metrics of a batch or a shard of it."""

    def finish_step(self, progress: float) -> None:
        """After an optimiser step; `progress` is the share of the run that is done, 0 to 1 (for curricula, fresh data)."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Random states, sampler positions and banks: nested dicts and lists of tensors, numbers, strings and None."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state`` was taken."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write the trained delta (never the base)."""
