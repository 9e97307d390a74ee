"""Which adapters there are. Imports one when it is used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from pydantic import ValidationError

from mplus.errors import InputError
from mplus.evaluation.material import Material, Settings, Stream
from mplus.evaluation.taskfile import TaskFile, first_complaint

ADAPTERS: Final = {
    "retention": "RetentionSettings",
    "facts": "FactsSettings",
    "needle": "NeedleSettings",
    "ruler": "RulerSettings",
    "babilong": "BabilongSettings",
    "documents": "DocumentsSettings",
    "events": "EventsSettings",
    "conversations": "ConversationsSettings",
    "incremental": "IncrementalSettings",
    "perplexity": "PerplexitySettings",
    "efficiency": "EfficiencySettings",
}
"""Module below ``mplus.evaluation.adapters``, and the name of its settings; each has ``streams(settings, material)``."""


def settings_of(task: TaskFile, changes: dict[str, Any]) -> Settings:
    """The adapter's settings: those of the task file with changes.

    Raises:
        InputError: no such adapter, or a setting that is unknown or wrong.
    """
    kind = getattr(_module(task), ADAPTERS[task.adapter])
    try:
        made: Settings = kind(**{**task.settings, **changes})
    except ValidationError as error:
        raise InputError(f"task '{task.task}': {first_complaint(error, kind)}") from None
    return made


def streams_of(task: TaskFile, settings: Settings, material: Material) -> list[Stream]:
    """What is read and asked."""
    make: Callable[[Settings, Material], list[Stream]] = _module(task).streams
    found = make(settings, material)
    if not found:
        why = f" ({material.left_out})" if material.left_out else ""
        raise InputError(f"task '{task.task}' has no question with these settings{why}; raise --limit or change the settings")
    return found


def _module(task: TaskFile) -> Any:
    if task.adapter not in ADAPTERS:
        raise InputError(f"task '{task.task}' names adapter '{task.adapter}'; known: {', '.join(sorted(ADAPTERS))}")
    return import_module(f"mplus.evaluation.adapters.{task.adapter}")
