"""The optimiser of a run and the factor on its learning rate. Knows parameter groups, no model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from mplus.errors import TrainingError
from mplus.training.objectives.task import ParameterGroup
from mplus.training.run.recipe import Optimiser, Schedule


def named_parameters(groups: Sequence[ParameterGroup]) -> dict[str, nn.Parameter]:
    """All trained parameters by name, made float32: steps smaller than bfloat16 resolves would be lost.

    Raises:
        TrainingError: nothing is trained.
    """
    found: dict[str, nn.Parameter] = {}
    for group in groups:
        for name, value in group.parameters:
            assert name not in found, f"two trained parameters are called {name}"
            assert value.requires_grad, f"{name} of group {group.name} does not require a gradient"
            value.data = value.data.float()
            found[name] = value
    if not found:
        raise TrainingError("the task trains no parameter; give the model an adapter or a retriever to train (section `model`)")
    return found


def make_optimiser(settings: Optimiser, groups: Sequence[ParameterGroup]) -> torch.optim.AdamW:
    """AdamW with one group each; a group's full rate stands beside it as ``base``."""
    decay = settings.weight_decay
    return torch.optim.AdamW(
        [
            {
                "params": [value for _, value in group.parameters],
                "base": settings.lr * group.lr_factor,
                "lr": settings.lr * group.lr_factor,
                "weight_decay": decay if group.weight_decay is None else group.weight_decay,
            }
            for group in groups
            if group.parameters
        ],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.epsilon,
    )


def lr_factor(settings: Schedule, step: int, progress: float) -> float:
    """The factor on the learning rate.

    Args:
        step: optimiser steps done, for the warm-up.
        progress: share of the run that is done, 0 to 1, by steps or time, whichever is further.
    """
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return warm * _shape(settings, min(1.0, max(0.0, progress)))


def _shape(settings: Schedule, progress: float) -> float:
    span = 1.0 - settings.floor
    match settings.kind:
        case "constant":
            return 1.0
        case "linear":
            return settings.floor + span * (1.0 - progress)
        case "cosine":
            return settings.floor + span * 0.5 * (1.0 + math.cos(math.pi * progress))
        case "warmup_stable_decay":
            left = (1.0 - progress) / (1.0 - settings.hold)
            return settings.floor + span * min(1.0, left)
