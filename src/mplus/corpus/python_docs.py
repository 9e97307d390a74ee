"""Prose that every Python installation carries, to read without any file. Knows neither facts nor models."""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from mplus.errors import InputError

# Parts of the standard library that not every installation has, or that hold data and tests rather than prose.
_LEFT_OUT: Final = frozenset(
    "test tests idlelib idle_test lib2to3 site-packages dist-packages __pycache__ turtledemo ensurepip pydoc_data _pyrepl".split()
)
_SHORTEST_PARAGRAPH_WORDS: Final = 5
_PROSE_SHARE: Final = 0.8  # letters, spaces and everyday punctuation among a paragraph's characters


@cache
def python_text() -> str:
    """Prose that every Python installation carries: the language reference, then docstrings of the standard library.

    The text depends on the Python version only: modules are read as files, in sorted order, and none is imported.

    Raises:
        InputError: this Python was installed without its documentation and sources.
    """
    paragraphs: dict[str, None] = {}  # a dict keeps the order and drops repetitions
    for document in (*_language_reference(), *_docstrings(Path(sysconfig.get_path("stdlib")))):
        for paragraph in _prose(document):
            paragraphs.setdefault(paragraph)
    if not paragraphs:
        raise InputError(
            f"this Python has no docstrings in {sysconfig.get_path('stdlib')} and no language reference; "
            "pass a UTF-8 text of your own with --haystack FILE"
        )
    return "\n\n".join(paragraphs) + "\n"


def _language_reference() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions package it apart
        return []
    return [topics[name] for name in sorted(topics)]


def _docstrings(library: Path) -> Iterator[str]:
    """Docstrings of all modules below ``library``, in the order of paths and lines."""
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        if _LEFT_OUT.isdisjoint(path.relative_to(library).parts):
            try:
                module = ast.parse(path.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            yield from _docstrings_of(module)


def _docstrings_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if docstring := ast.get_docstring(node, clean=False):
            yield inspect.cleandoc(docstring)
        for child in node.body:
            yield from _docstrings_of(child)


def _prose(document: str) -> Iterator[str]:
    """Paragraphs of running English, each on one line, without markup, code and rulers."""
    lines = (line.rstrip() for line in document.expandtabs().splitlines())
    kept = "\n".join("" if _is_ruler(line) or line.lstrip().startswith(".. ") else line for line in lines)
    for paragraph in re.split(r"\n\s*\n", kept):
        text = " ".join(_without_markup(paragraph).split())
        if _reads_like_english(text):
            yield text


def _is_ruler(line: str) -> bool:
    line = line.strip()
    return len(line) > 2 and len(set(line)) == 1 and not line[0].isalnum()


def _without_markup(paragraph: str) -> str:
    paragraph = re.sub(r":[a-z]+(?::[a-z]+)?:`~?([^`]*)`", r"\1", paragraph)
    paragraph = re.sub(r"`+([^`']*)[`']+", r"\1", paragraph)
    return re.sub(r"^\s*[*\-]\s+", "", paragraph).removesuffix("::")


def _reads_like_english(text: str) -> bool:
    if len(text.split()) < _SHORTEST_PARAGRAPH_WORDS or ">>>" in text or "::=" in text:
        return False
    if not re.search(r"[.!?:][\"')]*$", text) or (not text[0].isalnum() and text[0] not in "\"'("):
        return False
    everyday = sum(unicodedata.category(sign)[0] in "LZ" or sign in ",.'" for sign in text)
    return everyday >= _PROSE_SHARE * len(text)
