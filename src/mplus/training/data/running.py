"""Running text between facts: novels and documentation, as sentences. Knows no tokenizer."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from mplus.errors import InputError
from mplus.text.files import read_text
from mplus.text.sentences import sentences

BOOKS: Final = ("pride_and_prejudice", "moby_dick", "frankenstein")
DOCUMENTED_PACKAGES: Final = ("torch", "transformers", "numpy", "peft", "matplotlib")
"""Their docstrings are read; the demo reads the standard library's."""
DOCSTRING_CHARACTERS: Final = 1_500_000


class RunningText:
    """Sentences of several texts, read round and round from random places."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = [[part for part in sentences(text) if part.strip()] for text in texts if text.strip()]

    def take(self, rng: Random, characters: int, *, among: int | None = None) -> list[str]:
        """Consecutive sentences of at least `characters` characters together, from a random place of one of the first `among` texts."""
        text = rng.choice(self.texts[:among])
        at = rng.randrange(len(text))
        out: list[str] = []
        while characters > 0:
            out.append(text[at % len(text)])
            characters -= len(out[-1])
            at += 1
        return out


def book_texts(data: Path) -> list[str]:
    """The novels to train on.

    Raises:
        InputError: one is missing.
    """
    paths = [data / "haystack" / "books" / f"{book}.txt" for book in BOOKS]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"training data directory {data} lacks {', '.join(missing)} in haystack/books; give the directory that holds the books"
        )
    return [read_text(path) for path in paths]


@cache
def docstrings(packages: tuple[str, ...], characters: int) -> str:
    """Documentation of installed packages, read from source without importing them."""
    pieces: list[str] = []
    for package in packages:
        spec = importlib.util.find_spec(package)
        root = Path(spec.origin).parent if spec is not None and spec.origin else None
        size = 0
        for path in sorted(root.rglob("*.py")) if root is not None else []:
            if size > characters / len(packages):
                break
            found = _docstrings_of(path)
            pieces += found
            size += sum(map(len, found))
    return "\n\n".join(pieces)


def _docstrings_of(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return []
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    texts = (ast.get_docstring(node) for node in nodes)
    return [text for text in texts if text and len(text) > 200]
