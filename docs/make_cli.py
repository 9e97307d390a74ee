"""Write docs/reference/cli.md from the command line itself: ``python docs/make_cli.py``. A test compares both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from mplus.cli.app import app

PAGE = Path(__file__).parent / "reference" / "cli.md"
HEAD = """# Command line reference

Made by `python docs/make_cli.py` from the commands themselves; do not edit. How to use them: [command-line.md](../how-to/command-line.md).

Every command also takes `--verbose` (`-v`: show what the library decides, on stderr) and `--help`.
Exit codes: 0 done, 1 `mplus verify` found damage, 2 a mistake that one line on stderr explains, 130 interrupted.
"""
EVERYWHERE = ("verbose",)
"""Parameters of every command, which the head names once."""


def page() -> str:
    """The whole reference."""
    return "\n\n".join([HEAD.strip(), *_commands(app, "mplus")]) + "\n"


def _commands(group: typer.Typer, path: str) -> Iterator[str]:
    """A section for each command of a group, groups below it included."""
    if group.registered_callback and group.registered_callback.callback and path == "mplus":
        yield _section(path, str(group.info.help), group.registered_callback.callback, str(group.info.epilog))
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        yield _section(f"{path} {name}", command.help or inspect.getdoc(command.callback) or "", command.callback, command.epilog)
    for below in group.registered_groups:
        assert below.typer_instance is not None
        acting = below.typer_instance.registered_callback
        if acting is not None and acting.callback is not None:
            yield _section(f"{path} {below.name}", inspect.getdoc(acting.callback) or "", acting.callback, str(below.epilog))
        else:
            help_text = below.help if isinstance(below.help, str) else str(below.typer_instance.info.help)
            yield f"## `{path} {below.name}`\n\n{_prose(help_text)}"
        yield from _commands(below.typer_instance, f"{path} {below.name}")


def _section(path: str, help_text: str, callback: Callable[..., Any], epilog: str | None) -> str:
    rows = list(_rows(callback))
    arguments = [row for row in rows if not row[0].startswith("`-")]
    options = [row for row in rows if row[0].startswith("`-")]
    parts = [f"## `{path}`", _prose(help_text)]
    for title, found in (("argument", arguments), ("option", options)):
        if found:
            parts.append("\n".join([f"| {title} | default | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in found)]))
    if epilog:
        parts.append(epilog.replace("Example: ", "Example: `") + "`")
    return "\n\n".join(parts)


def _prose(text: str) -> str:
    """Help as Markdown; a paragraph that keeps its line breaks (``\\b``) becomes a code block."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.split("\n")
        if lines[0].strip() == "\b":
            parts.append("\n".join(["```", *lines[1:], "```"]))
        else:
            parts.append(" ".join(line.strip() for line in lines))
    return "\n\n".join(part for part in parts if part)


def _rows(callback: Callable[..., Any]) -> Iterator[tuple[str, str, str]]:
    """Name with what it takes, default and help of each parameter, arguments first."""
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = _declared(hints[name])
        if info is not None and not info.hidden and name not in EVERYWHERE:
            yield _name(name, kind, info), _default(parameter.default, info), _cell(str(info.help or ""))


def _declared(hint: Any) -> tuple[Any, ArgumentInfo | OptionInfo | None]:
    """The type of an annotated parameter and what typer is told of it."""
    if get_origin(hint) is not Annotated:
        return hint, None
    kind, *extras = get_args(hint)
    return kind, next((extra for extra in extras if isinstance(extra, ArgumentInfo | OptionInfo)), None)


def _name(name: str, kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    if isinstance(info, ArgumentInfo):
        return f"`{info.metavar or name.upper()}`"
    declared = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str) and word.startswith("-")]
    spelt = ", ".join(declared or ["--" + name.replace("_", "-")])
    value = "" if kind is bool else " " + (info.metavar or _value(kind, info))
    return f"`{spelt}{value}`".replace("|", "\\|")


def _value(kind: Any, info: OptionInfo) -> str:
    """What an option without a metavar takes: one of some words, or a number within bounds."""
    inner = next((part for part in (kind, *get_args(kind)) if isinstance(part, type) and part is not type(None)), str)
    if issubclass(inner, Enum):
        return "|".join(str(choice.value) for choice in inner)
    bounds = "" if info.min is None else f" >= {info.min}"
    return {int: "N", float: "X"}.get(inner, "TEXT") + bounds


def _default(value: Any, info: ArgumentInfo | OptionInfo) -> str:
    if isinstance(info.show_default, str):
        return _cell(info.show_default)
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value is False or value in ("", (), []):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
