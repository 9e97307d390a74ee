"""Recipes as YAML files: opening by name or path, ``extends``, ``--set``. Knows no setting by name; ``recipe`` validates.

Shipped recipes open by name (``adapt/memory``), from a checkout and from an installed package alike. YAML is read
as version 1.2 has it where 1.1 surprises: ``no`` is a word, ``1e-3`` a number, a repeated key an error.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from mplus.errors import InputError, RecipeError
from mplus.runtime.input_file import LARGEST_SETTINGS_BYTES, expanded, read_input
from mplus.runtime.suggest import nearest
from mplus.runtime.unicode import well_formed
from mplus.settings import SYMBOLS
from mplus.training.run.recipe import Recipe, make_recipe, modern

log = logging.getLogger(__name__)

SUFFIXES = ("", ".yaml", ".yml")
_PACKAGE = Path(__file__).resolve().parents[2]
SHIPPED = next(
    (place for place in (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes") if place.is_dir()), _PACKAGE / "recipes"
)
"""Where the shipped recipes are: inside an installed package, beside the sources of a checkout."""
DEEPEST = 32
LONGEST_EXTENDS = 16


class _Loader(yaml.SafeLoader):
    """The safe loader with the surprises taken out."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (a class attribute of PyYAML's)
        first: [(tag, pattern) for tag, pattern in found if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases, which let a few lines stand for any number of them, and what is nested too deep."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias (*name) is not read; write the value out", mark)
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, f"it is nested deeper than {DEEPEST} levels", mark)
        try:
            found: yaml.Node | None = super().compose_node(parent, index)
            return found
        finally:
            self.depth -= 1

    depth = 0

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
        path: name of a shipped recipe, or a YAML file (the suffix may be left out).
        changes: ``a.b.c=value`` with a YAML value, applied last, in order.

    Raises:
        RecipeError: missing file (with the nearest name), bad YAML (with the line), a circle of ``extends``, or settings that
            do not fit (with the key).
    """
    found = find(path)
    raw = _extended(found, ())
    for change in changes:
        raw = _changed(raw, change)
    return make_recipe(raw, source=well_formed(str(path)))


def recipe_names() -> dict[str, str]:
    """Name and first sentence of each shipped recipe, in the order of names."""
    found = {}
    for file in sorted(SHIPPED.rglob("*.yaml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        found[file.relative_to(SHIPPED).with_suffix("").as_posix()] = (
            first.removeprefix("#").strip().partition(". ")[0].rstrip(".")
        )
    return found


def write_recipe(resolved: dict[str, Any]) -> str:
    """Resolved settings as YAML text."""
    text: str = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120)
    return text


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises:
        RecipeError: not readable, not YAML (with the line) or not a mapping.
    """
    name = well_formed(str(path))
    try:
        text = read_input(path, limit_bytes=LARGEST_SETTINGS_BYTES, what="a recipe in YAML").decode("utf-8-sig")
    except InputError as error:
        raise RecipeError(str(error)) from None
    except UnicodeDecodeError:
        raise RecipeError(f"{name} cannot be read: it is not UTF-8 text; give a recipe in YAML") from None
    content = _parsed(text, name)
    if not isinstance(content, dict):
        raise RecipeError(f"{name} does not hold a mapping (key: value lines); give a recipe in YAML")
    return content


def find(wanted: str | Path) -> Path:
    """The file of a recipe: a file of that very path, else the shipped recipe of that name, else a file less its suffix.

    Raises:
        RecipeError: there is none; names the nearest.
    """
    text = str(wanted)
    if not text.strip() or "\0" in text:
        raise RecipeError(f"a recipe's name is {text!r}; give a name that `mplus train --list` shows, or the path of a YAML file")
    path = expanded(text)
    shipped = _shipped(text)
    own = next((one for one in _with_suffixes(path) if one.is_file()), None)
    if own is not None and (own == path or shipped is None):
        return own
    if shipped is not None:
        if own is not None and own.resolve() != shipped.resolve():
            log.warning("taking the shipped recipe %s; the file of that name here is meant by %s", text, own)
        return shipped
    if path.exists():
        kind = "a directory" if path.is_dir() else "a pipe or device"
        raise RecipeError(
            f"{well_formed(text)} is {kind}; give a name that `mplus train --list` shows, or the path of a YAML file"
        )
    raise RecipeError(f"there is no recipe {well_formed(text)}{_hint(path, text)}")


def _shipped(text: str) -> Path | None:
    """The shipped recipe of a name like ``adapt/memory``; also as it stands in a checkout, ``recipes/adapt/memory.yaml``."""
    name = text.removeprefix("./").removeprefix("recipes/")
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "~" in name:
        return None
    return next((one for one in _with_suffixes(SHIPPED / name) if one.is_file()), None)


def _with_suffixes(path: Path) -> Iterator[Path]:
    for suffix in SUFFIXES:
        yield path.with_name(path.name + suffix) if suffix and path.name else path


def _hint(path: Path, text: str) -> str:
    """The nearest file or name."""
    folders = [folder for folder in dict.fromkeys((Path("recipes"), path.parent)) if folder.is_dir()]
    files = {str(file) for folder in folders if folder != Path() for file in folder.rglob("*.yaml")}
    files |= {str(file) for folder in folders for file in folder.glob("*.yaml")}
    names = sorted({*files, *recipe_names()})
    by_name = {Path(file).stem: file for file in names}
    near = nearest(text, names, cutoff=0.4) or by_name.get(nearest(path.stem, sorted(by_name)) or "")
    if near is not None:
        return f"; did you mean {near}?"
    return "; `mplus train --list` names those that come with mplus, a path names one of yours"


def _extended(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The file's content over that of the file it extends."""
    own = path.resolve()
    if len(above) > LONGEST_EXTENDS:
        raise RecipeError(f"{path}: `extends` goes on for more than {LONGEST_EXTENDS} files; write the settings into fewer")
    if own in above:
        circle = " -> ".join(one.name for one in (*above[above.index(own) :], own))
        raise RecipeError(f"{path}: `extends` goes in a circle ({circle}); let one of them stand on its own")
    content = modern(read_yaml(path), str(path))
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
    """`over` laid over `base`, section by section; another ``task.kind`` replaces the whole task, lists replace lists.

    The paper's letters are spelt out before, so that `N` replaces `stm_tokens`.
    """
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            other_kind = "kind" in value and value["kind"] != below.get("kind")
            if key == "geometry":
                below, value = _spelt(below), _spelt(value)
            out[key] = value if key == "task" and other_kind else _merged(below, value)
        else:
            out[key] = value
    return out


def _spelt(sizes: dict[str, Any]) -> dict[str, Any]:
    """Letters as names, but for a size that is given by both: that is refused later."""
    return {key if SYMBOLS.get(key) in sizes else SYMBOLS.get(key, key): value for key, value in sizes.items()}


def _changed(raw: dict[str, Any], change: str) -> dict[str, Any]:
    key, equals, text = change.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set {change!r} is not key=value; write for example --set optimiser.lr=1e-3")
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
    return _merged(raw, modern(nested, f"--set {key}"))


def _parsed(text: str, source: str) -> Any:
    try:
        found = yaml.load(text, Loader=_Loader)  # a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{source}{where}: not YAML: {error.problem or error.context}; correct that line") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{source}: not YAML: {' '.join(str(error).split())}; save it as UTF-8 text") from None
    except (
        ValueError,
        OverflowError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:  # 2001-99-99, 0b, digits by the thousand
        raise RecipeError(f"{source}: a value cannot be read ({' '.join(str(error).split()):.100}); correct it") from None
    _check_values(found, source)
    return found


def _check_values(value: Any, source: str) -> None:
    """Refuse numbers that no setting can have."""
    if isinstance(value, dict):
        for inner in value.values():
            _check_values(inner, source)
    elif isinstance(value, list):
        for inner in value:
            _check_values(inner, source)
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        raise RecipeError(
            f"{source}: a number has {len(hex(value)) - 2} hexadecimal digits, more than any setting can hold; correct it"
        )
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{source}: a number is {value}, expected a finite one; correct it")
