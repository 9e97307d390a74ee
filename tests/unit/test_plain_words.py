"""Words that only this project used are gone: from names of modules, classes, functions and arguments, and from first lines of docstrings.

What stands in their place is in ``docs/glossary.md``. Stored names keep them (keys of recipes, deltas and results); those are no names here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import mplus

ROOT = Path(mplus.__file__).parent
GLOSSARY = (ROOT.parents[1] / "docs" / "glossary.md").read_text(encoding="utf-8")

PRIVATE = (
    "vote votes shelf shelves scribe teller told standing resident loudest circumstances cast watch journal material job "
    "footprint hotspots paired guard engine host maker settle sealed chances"
).split()
"""Not in any name."""
NOT_IN_FIRST_LINES = "vote votes shelf shelves scribe teller loudest hotspots whoever".split()
"""Not in the first line of a docstring either; the others above have a plain meaning too."""
STORED = {"gathering.py": {"host"}}
"""Host memory, as CUDA calls it."""
OF_A_SERVER = {"host", "engine", "job", "journal"}
"""A server has these in their usual meaning: what it binds to, what answers, what runs beside requests, what is on disk first."""
OF_A_SERVER_TOO = {"serve.py", "mcp.py", "serve_keys.py"}
"""Commands that start one."""


def words(name: str) -> set[str]:
    """Parts of an identifier, in lower case."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def names(path: Path, tree: ast.Module) -> Iterator[str]:
    """Of a module, and of all classes, functions and arguments in it."""
    yield path.parent.name if path.stem == "__init__" else path.stem
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            every = node.args
            yield from (argument.arg for argument in (*every.posonlyargs, *every.args, *every.kwonlyargs))


def usual(path: Path) -> set[str]:
    """Private words that have their usual meaning in a file."""
    of_server = path.is_relative_to(ROOT / "server") or (path.parent.name == "cli" and path.name in OF_A_SERVER_TOO)
    return STORED.get(path.name, set()) | (OF_A_SERVER if of_server else set())


def first_lines(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield re.sub(r"`[^`]*`", "", text.split("\n")[0])


def test_no_name_has_a_private_word() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in trees()
        for name in names(path, tree)
        if (words(name) & set(PRIVATE)) - usual(path)
    ]
    assert not wrong, "say it in the words of docs/glossary.md:\n" + "\n".join(wrong)


def test_no_docstring_begins_with_a_private_word() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {line}"
        for path, tree in trees()
        for line in first_lines(tree)
        if set(re.findall(r"[a-z]+", line.lower())) & set(NOT_IN_FIRST_LINES)
    ]
    assert not wrong, "say it in the words of docs/glossary.md:\n" + "\n".join(wrong)


def test_the_glossary_says_what_stands_in_their_place() -> None:
    former = set(re.findall(r"\w+", " ".join(re.findall(r"ormerly ([^|]*)", GLOSSARY)).lower()))
    missing = [word for word in PRIVATE if word not in former and word.removesuffix("s") not in former]
    assert not missing, f"docs/glossary.md lacks {', '.join(missing)}"
