"""Recipes as YAML files: reading, ``extends``, ``--set``. Knows no setting by name; ``recipe`` validates.

YAML is read as version 1.2 has it where 1.1 surprises: ``no`` is a word, ``1e-3`` a number, a repeated key an error.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mplus.errors import RecipeError
from mplus.training.recipe import Recipe, make_recipe

SUFFIXES = ("", ".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """The safe loader with the surprises taken out."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (a class attribute of PyYAML's)
        first: [(tag, pattern) for tag, pattern in found if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not a word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|nan))$"
    ),
    list("-+0123456789."),
)


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Open a recipe.

    Args:
        path: YAML file (the suffix may be left out).
        changes: ``a.b.c=value`` with a YAML value, applied last, in order.

    Raises:
        RecipeError: missing file (with the nearest name), bad YAML (with the line), a circle of ``extends``, or settings that
            do not fit (with the key).
    """
    found = find(Path(path))
    raw = _extended(found, ())
    for change in changes:
        raw = _changed(raw, change)
    return make_recipe(raw, source=str(path))


def write_recipe(resolved: dict[str, Any]) -> str:
    """Resolved settings as YAML text."""
    text: str = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120)
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises:
        RecipeError: not readable, not YAML (with the line) or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"{path} cannot be read: {reason}; give a recipe in YAML") from None
    content = _parsed(text, str(path))
    if not isinstance(content, dict):
        raise RecipeError(f"{path} does not hold a mapping (key: value lines); give a recipe in YAML")
    return content


def find(path: Path) -> Path:
    """The file of a recipe; raises ``RecipeError`` with the nearest name when there is none."""
    for suffix in SUFFIXES:
        candidate = path.with_name(path.name + suffix) if suffix else path
        if candidate.is_file():
            return candidate
    folders = [folder for folder in dict.fromkeys((Path("recipes"), path.parent)) if folder.is_dir()]
    files = {str(file) for folder in folders if folder != Path() for file in folder.rglob("*.yaml")}
    files |= {str(file) for folder in folders for file in folder.glob("*.yaml")}
    wanted = str(path)
    close = difflib.get_close_matches(wanted, sorted(files), n=1, cutoff=0.4)
    by_name = {Path(file).stem: file for file in sorted(files)}
    close = close or [by_name[name] for name in difflib.get_close_matches(path.stem, sorted(by_name), n=1, cutoff=0.5)]
    hint = f"; did you mean {close[0]}?" if close else "; give the path of a recipe's YAML file"
    raise RecipeError(f"there is no recipe {wanted}{hint}")


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The file's content over that of the file it extends."""
    own = path.resolve()
    if own in above:
        circle = " -> ".join(one.name for one in (*above[above.index(own) :], own))
        raise RecipeError(f"{path}: `extends` goes in a circle ({circle}); let one of them stand on its own")
    content = read_yaml(path)
    below = content.pop("extends", None)
    if below is None:
        return content
    if not isinstance(below, str):
        raise RecipeError(f"{path}: extends is {below!r}, expected the path of another recipe, seen from this file")
    try:
        base = find(path.parent / below)
    except RecipeError as error:
        raise RecipeError(f"{path}: extends: {error}") from None
    return _merged(_extended(base, (*above, own)), content)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, section by section; another ``task.kind`` replaces the whole task, lists replace lists."""
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            other_kind = "kind" in value and value["kind"] != below.get("kind")
            out[key] = value if key == "task" and other_kind else _merged(below, value)
        else:
            out[key] = value
    return out


def _changed(raw: dict[str, Any], change: str) -> dict[str, Any]:
    key, equals, text = change.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set {change!r} is not key=value; write for example --set optimiser.rate=1e-3")
    nested: Any = _parsed(text, f"--set {key}")
    for part in reversed(path):
        nested = {part: nested}
    spot: Any = raw
    for part in path[:-1]:
        spot = spot.get(part)
        if spot is None:
            break
        if not isinstance(spot, dict):
            raise RecipeError(f"--set {key}: {part} is {spot!r} and has no keys inside; set {part} itself")
    return _merged(raw, nested)


def _parsed(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{source}{where}: not YAML: {error.problem or error.context}; correct that line") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not YAML: {' '.join(str(error).split())}; save it as UTF-8 text") from None
