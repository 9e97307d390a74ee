"""Options of `mplus eval` beyond the typed ones: every setting of a task, and of a run, is an option by its name. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

import typer
import yaml
from pydantic import ValidationError

from mplus.cli.options import MOST_TOKENS, a_path
from mplus.errors import InputError
from mplus.runtime.suggest import did_you_mean

if TYPE_CHECKING:
    from mplus.evaluation.evaluate import Options
    from mplus.evaluation.tasks.task_file import TaskFile

_ALIASES: Final = {"questions_per_passage": "per_passage", "passage_adapter": "plain_adapter"}
_OF_A_RUN: Final = ("max_new_tokens", "text_budget", "source_tokens", "plain_adapter", "memoryllm_model", "store")
_TYPED: Final = (
    "--out --data --haystack --limit --questions --seed --set --systems --set-geometry --variant --resume --overwrite".split()
)


def option_values(args: Sequence[str], own: set[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Arguments without the options that are not ``own``, and the values of those by name.

    Raises:
        BadParameter: one has no value.
    """
    rest: list[str] = []
    further: dict[str, list[str]] = {}
    waiting = list(args)
    while waiting:
        one = waiting.pop(0)
        name, equals, value = one.partition("=")
        if one == "--":
            return [*rest, one, *waiting], further
        if not one.startswith("--") or name in own:
            rest.append(one)
            continue
        if not equals:
            if not waiting:
                raise typer.BadParameter(f"option '{name}' requires an argument")
            value = waiting.pop(0)
        further.setdefault(name, []).append(value)
    return rest, further


def accepted(given: Mapping[str, list[str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of options in two parts: those of every run, and those that should be settings of a task."""
    of_run: dict[str, Any] = {}
    of_task: dict[str, Any] = {}
    for option, values in given.items():
        name = option.removeprefix("--").replace("-", "_")
        name = _ALIASES.get(name, name)
        if name in _OF_A_RUN:
            of_run[name] = a_path(values[-1]) if name == "plain_adapter" else values[-1]
        elif name == "distractors":
            of_task[name] = [str(a_path(value)) for value in values]
        else:
            of_task[name] = _number(option, values[-1])
    return of_run, of_task


def options_of(**values: Any) -> Options:
    """Options of a run.

    Raises:
        BadParameter: a value is wrong; its option is named.
    """
    from mplus.evaluation.evaluate import Options

    if "store" in values:
        _check_choice("--store", values["store"], Options.model_fields["store"].annotation)
    try:
        return Options(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = f"--{str(first['loc'][0]).replace('_', '-')}"
        raise typer.BadParameter(f"{option} is {first['input']!r:.40}: {first['msg'][:1].lower()}{first['msg'][1:]}") from None


def settings_for(tasks: Sequence[TaskFile], named: Mapping[str, Any], entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Changed settings of each task, from options and from ``--set``. What only some of several tasks know goes to those.

    Raises:
        InputError: nobody knows a setting (the nearest is named), or a value is wrong.
    """
    from mplus.evaluation.tasks.builders import settings_of

    known = {task.task: type(settings_of(task, {})).model_fields for task in tasks}
    changes: dict[str, dict[str, Any]] = {name: {} for name in known}
    for task, key, value in [*((None, key, value) for key, value in named.items()), *parse_set(entries)]:
        if task is not None and task not in known:
            raise InputError(f"a setting is for task '{task}', which is not run; run it, or leave the setting out")
        takers = [name for name in known if key in known[name] and task in (None, name)]
        if not takers:
            raise InputError(
                _unknown(key, key in named, list(known), sorted({field for fields in known.values() for field in fields}))
            )
        for name in takers:
            if key in named:
                _check_choice(_option(key), value, known[name][key].annotation)
            changes[name][key] = value
    for opened in tasks:
        settings_of(opened, changes[opened.task])  # refuses wrong values
    return changes


def parse_set(entries: Sequence[str]) -> list[tuple[str | None, str, Any]]:
    """Task (None: any that has it), key and value of entries like "lengths=[4000]" or "needle.depths=[0,50]".

    Raises:
        InputError: no key or no value, or a value that is no YAML.
    """
    parsed: list[tuple[str | None, str, Any]] = []
    for entry in entries:
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not name or not value:
            raise InputError(f"'{entry.strip()}' is no setting of a task; expected KEY=VALUE like lengths=[4000,16000]")
        task, dot, key = name.rpartition(".")
        try:
            parsed.append((task if dot else None, key, yaml.safe_load(value)))
        except yaml.YAMLError:
            raise InputError(
                f"the value of '{entry.strip()}' cannot be read; expected a number, a word or a list like [1, 2]"
            ) from None
    return parsed


def _unknown(key: str, is_option: bool, tasks: list[str], fields: list[str]) -> str:
    """Names the nearest setting, and for an option also the nearest of those that every run has."""
    options = [*_TYPED, *(_option(name) for name in (*_OF_A_RUN, *fields))]
    hint = did_you_mean(key, fields, otherwise=f"known: {', '.join(fields) or 'none'}")
    hint = did_you_mean(_option(key), options, otherwise=hint, cutoff=0.7) if is_option else hint
    shown = _option(key) if is_option else f"'{key}'"
    return f"task {' or '.join(tasks)} has no setting {shown}; {hint}"


def _option(key: str) -> str:
    typed = {setting: option for option, setting in _ALIASES.items()}
    return f"--{typed.get(key, key).replace('_', '-')}"


def _number(option: str, text: str) -> Any:
    """A typed value: a whole number where it is one, else what YAML makes of it."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST_TOKENS:
        raise typer.BadParameter(f"{option} is {value}, expected at most {MOST_TOKENS:,}")
    return value


def _check_choice(option: str, value: Any, annotation: Any) -> None:
    known = get_args(annotation) if get_origin(annotation) is Literal else ()
    if known and value not in known:
        raise InputError(f"{option} is '{value}', expected {' or '.join(known)}")
