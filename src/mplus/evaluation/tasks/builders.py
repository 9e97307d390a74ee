"""Task builders by the name of their folder. Imports one when it is used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from pydantic import ValidationError

from mplus.errors import InputError
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.task_file import TaskFile, first_complaint

BUILDERS: Final = {
    "retention": "RetentionSettings",
    "facts": "FactsSettings",
    "pairs": "PairsSettings",
    "needle": "NeedleSettings",
    "ruler": "RulerSettings",
    "babilong": "BabilongSettings",
    "documents": "DocumentsSettings",
    "events": "EventsSettings",
    "conversations": "ConversationsSettings",
    "incremental": "IncrementalSettings",
    "updates": "UpdatesSettings",
    "consolidation": "ConsolidationSettings",
    "absent": "AbsentSettings",
    "forgotten": "ForgottenSettings",
    "chains": "ChainsSettings",
    "paraphrase": "ParaphraseSettings",
    "turns": "TurnsSettings",
    "everyday": "EverydaySettings",
    "perplexity": "PerplexitySettings",
    "efficiency": "EfficiencySettings",
}
"""Folder below ``mplus.evaluation.tasks``, and the name of its builder's settings; each has ``streams(settings, context)``."""


def settings_of(task: TaskFile, changes: dict[str, Any]) -> Settings:
    """The builder's settings: those of the task file with changes.

    Raises:
        InputError: no such builder, or a setting that is unknown or wrong.
    """
    kind = getattr(_module(task), BUILDERS[task.builder])
    try:
        made: Settings = kind(**{**task.settings, **changes})
    except ValidationError as error:
        raise InputError(f"task '{task.task}': {first_complaint(error, kind)}") from None
    return made


def streams_of(task: TaskFile, settings: Settings, context: TaskContext) -> list[StreamSource]:
    """The streams of a task."""
    make: Callable[[Settings, TaskContext], list[StreamSource]] = _module(task).streams
    found = make(settings, context)
    if not found:
        why = f" ({context.left_out})" if context.left_out else ""
        raise InputError(f"task '{task.task}' has no question with these settings{why}; raise --limit or change the settings")
    return found


def _module(task: TaskFile) -> Any:
    if task.builder not in BUILDERS:
        raise InputError(f"task '{task.task}' names builder '{task.builder}'; known: {', '.join(sorted(BUILDERS))}")
    return import_module(f"mplus.evaluation.tasks.{task.builder}.builder")
