"""Functions of installed packages with what their documentation says of them, to be asked for by what they do. Knows no tokenizer.

Packages that training reads as running text anyway; the standard library's documentation is what measuring reads.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

from mplus.training.data.asking import worded

MOST_OF_A_PACKAGE: Final = 400
_SHORTEST, _LONGEST, _LONGEST_REST = 25, 140, 400  # characters of the first sentence; of what follows it
_LONGEST_ARGUMENTS: Final = 100
_NO_VERBS: Final = frozenset(("this", "class", "is", "as", "its", "was", "has", "does", "alias", "axis", "args", "kwargs"))
_FEWEST_SENTENCES: Final = 3  # that begin with a word, before it counts as a verb
_MARKUP: Final = re.compile(r"[`:%{}<>=*\\_]|e\.g|i\.e")


@dataclass(frozen=True)
class Function:
    """`name`, how it is called, the first sentence of its documentation and what follows that."""

    name: str
    arguments: str
    sentence: str
    rest: str

    def shown(self, rng: Random) -> tuple[str, int]:
        """Its text, as source or as documentation, and how many characters of it name it and say what it does."""
        if rng.random() < 0.5:
            head = f'def {self.name}({self.arguments}):\n    """{self.sentence}'
            return f'{head}\n\n    {self.rest}\n    """\n\n' if self.rest else f'{head}"""\n\n', len(head)
        head = f"{self.name}({self.arguments})\n    {self.sentence}"
        return f"{head}\n\n    {self.rest}\n\n" if self.rest else f"{head}\n\n", len(head)

    def question(self, rng: Random) -> str:
        """Say what the function does, without its name."""
        verb, what = self.sentence.rstrip(".").split(" ", 1)
        base = _base(verb)
        return worded(rng, "functions", does=f"{_third(base)} {what}", do=f"{base} {what}")


@cache
def functions(packages: tuple[str, ...]) -> tuple[tuple[Function, ...], ...]:
    """Functions by module, at least two each, of packages read from source without importing them; one of each name."""
    modules = [module for package in packages for module in _modules(package)]
    names = Counter(function.name for module in modules for function in module)
    verbs = Counter(_base(function.sentence.split(" ", 1)[0]) for module in modules for function in module)
    kept = (
        tuple(f for f in module if names[f.name] == 1 and verbs[_base(f.sentence.split(" ", 1)[0])] >= _FEWEST_SENTENCES)
        for module in modules
    )
    return tuple(module for module in kept if len(module) > 1)


def _modules(package: str) -> Iterator[list[Function]]:
    spec = importlib.util.find_spec(package)
    root = Path(spec.origin).parent if spec is not None and spec.origin else None
    count = 0
    for path in sorted(root.rglob("*.py")) if root is not None else []:
        if "tests" in path.parts:
            continue
        if count >= MOST_OF_A_PACKAGE:
            return
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        found = [one for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and (one := _function(node)) is not None]
        count += len(found)
        yield found


def _function(node: ast.FunctionDef) -> Function | None:
    """A public function whose first sentence says in plain words what it does, without its name; None: it is none."""
    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    sentence = text.split(". ")[0].rstrip(".") + "."
    first = sentence.split(" ", 1)[0]
    said = re.sub(r"[^a-z]", "", sentence.lower())
    if (
        node.name.startswith("_")
        or len(node.name) < 4
        or not _SHORTEST <= len(sentence) <= _LONGEST
        or not first.isalpha()
        or not first[0].isupper()
        or first.lower() in _NO_VERBS
        or first.endswith("ly")
        or _MARKUP.search(sentence)
        or re.sub(r"[^a-z]", "", node.name.lower()) in said
    ):
        return None
    whole = " ".join((ast.get_docstring(node) or "").split())
    rest = whole[len(sentence) :].strip()[:_LONGEST_REST].rsplit(" ", 1)[0]
    return Function(node.name, ast.unparse(node.args)[:_LONGEST_ARGUMENTS], sentence, rest)


def _base(verb: str) -> str:
    """A verb as after "to": returns, Return and return are one."""
    verb = verb.lower()
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if verb.endswith(("sses", "shes", "ches", "xes", "zzes")):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb


def _third(base: str) -> str:
    """A verb as after "it"."""
    if base.endswith("y") and base[-2:-1] not in "aeiou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("ss", "sh", "ch", "x", "zz", "o")) else "s")
