"""Names of the tasks that a recipe can ask for. Knows module names only; a task's module is imported when it is asked for.

A task module exposes ``Settings`` (pydantic, frozen, unknown keys refused) and ``build(model, settings, seed) -> Task``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from mplus.errors import RecipeError, TrainingError

if TYPE_CHECKING:
    from mplus.model import MPlusModel
    from mplus.training.objectives.task import Task

TASKS: dict[str, str] = {
    "vote": "mplus.training.objectives.retrieval",
    "read": "mplus.training.objectives.reading",
    "distil": "mplus.training.objectives.distilling",
    "language": "mplus.training.objectives.language",
    "recall": "mplus.training.objectives.recall",
}
"""Kind to module; a program of yours may add its own before it calls ``training.run.session``."""

ONE_TOKEN_A_ROW = ("vote", "language")


def settings_class(kind: str) -> type[BaseModel]:
    """Settings that a task takes beside its ``kind``.

    Raises:
        RecipeError: this installation has no such task.
    """
    found: type[BaseModel] = _module(kind).Settings
    return found


def build(kind: str, model: MPlusModel, settings: Any, seed: int) -> Task:
    """Make the objective; what it trains is then trainable and float32 or of the model's type.

    Raises:
        TrainingError: the task trains rows of one text token each, and the model pools them.
    """
    tokens = model.geometry.sizes.tokens_per_row
    if tokens > 1 and kind in ONE_TOKEN_A_ROW:
        raise TrainingError(
            f"task {kind} trains with one text token for each memory token, but geometry.tokens_per_row is {tokens}; leave it out "
            "(search keys are those of text tokens), or train the read adapter with task distil"
        )
    task: Task = _module(kind).build(model, settings, seed)
    return task


def _module(kind: str) -> ModuleType:
    name = TASKS[kind]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise RecipeError(
            f"task.kind {kind!r} is not part of this installation (module {name} is missing); update mplus"
        ) from None
