"""Settings of tasks from a command line: named options, and ``--set [TASK.]KEY=VALUE``. Knows task files, runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mplus.errors import InputError
from mplus.runtime.suggest import did_you_mean

if TYPE_CHECKING:
    from mplus.evaluation.tasks.context import Settings
    from mplus.evaluation.tasks.task_file import TaskFile

_OPTION = {"per_passage": "--questions-per-passage"}


def named_settings(**options: Any) -> dict[str, Any]:
    """The options that were given, as settings."""
    from mplus.evaluation.schedule.distances import parse_distances

    found: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or value == []:
            continue
        if name in ("distances", "lengths"):
            value = parse_distances(value)
        elif name == "distractors":
            value = [str(Path(one)) for one in value]
        elif name == "nq_half" and value not in ("eval", "all"):
            raise InputError(f"--nq-half is '{value}', expected eval or all")
        found[name] = value
    return found


def seed_list(text: str) -> list[int]:
    """Seeds from a list like "0,1,2".

    Raises:
        InputError: something else.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if not all(entry.isdigit() for entry in entries):
        raise InputError(f"seeds are '{text}', expected whole numbers like 0,1,2")
    return list(dict.fromkeys(map(int, entries)))


def parse_set(entries: Sequence[str]) -> list[tuple[str | None, str, Any]]:
    """Task (None: any that has it), key and value of entries like "lengths=[4000]" or "needle.depths=[0,50]".

    Raises:
        InputError: no key or no value, or a value that is no YAML.
    """
    found: list[tuple[str | None, str, Any]] = []
    for entry in entries:
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not name or not value:
            raise InputError(f"'{entry.strip()}' is no setting of a task; expected KEY=VALUE like lengths=[4000,16000]")
        task, dot, key = name.rpartition(".")
        try:
            found.append((task if dot else None, key, yaml.safe_load(value)))
        except yaml.YAMLError:
            raise InputError(
                f"the value of '{entry.strip()}' cannot be read; expected a number, a word or a list like [1, 2]"
            ) from None
    return found


def settings_for(
    tasks: Sequence[TaskFile], named: dict[str, Any], given: Sequence[tuple[str | None, str, Any]]
) -> dict[str, Settings]:
    """Settings of each task. What only some of several tasks know goes to those.

    Raises:
        InputError: nobody knows a setting (the nearest is named), or a value is wrong.
    """
    from mplus.evaluation.tasks.builders import settings_of

    plain = {task.task: settings_of(task, {}) for task in tasks}
    known = {name: set(type(one).model_fields) for name, one in plain.items()}
    changes: dict[str, dict[str, Any]] = {name: {} for name in plain}
    wanted = [(None, key, value) for key, value in named.items()] + list(given)
    for task, key, value in wanted:
        if task is not None and task not in known:
            raise InputError(f"a setting is for task '{task}', which is not run; run it, or leave the setting out")
        takers = [name for name in known if key in known[name] and task in (None, name)]
        if not takers:
            every = sorted(set().union(*known.values()))
            hint = did_you_mean(key, every, otherwise=f"known: {', '.join(every) or 'none'}")
            shown = _OPTION.get(key, f"--{key.replace('_', '-')}") if key in named else f"'{key}'"
            raise InputError(f"task {' or '.join(known)} has no setting {shown}; {hint}")
        for name in takers:
            changes[name][key] = value
    return {task.task: settings_of(task, changes[task.task]) for task in tasks}
