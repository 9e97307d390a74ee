"""What an attack counted. Knows nothing of attacks, processes or memories."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mplus.errors import MPlusError

RIGHT, REFUSED = "right", "refused"
EXAMPLES = 3


def without_place(text: str) -> str:
    """The text with DIR for the temporary directory of a run, which means nothing on another machine."""
    return re.sub(re.escape(tempfile.gettempdir()) + r"/[\w.-]+", "DIR", text)


@dataclass(frozen=True)
class Counts:
    """Attempts of one kind.

    Attributes:
        tried: attempts.
        right: of these, right.
        refused: of these, refused in one sentence where that is allowed, and nothing was changed.
        wrong: the others, per category.
        examples: per category the first few, each with the round that shows it again.
        rows: the same per row of the kind; empty in a row.
    """

    tried: int = 0
    right: int = 0
    refused: int = 0
    wrong: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def wrongs(self) -> int:
        """All that was wrong."""
        return sum(self.wrong.values())

    def first_example(self) -> str:
        """Of the commonest category; empty where nothing was wrong."""
        if not self.wrong:
            return ""
        category = max(self.wrong, key=lambda name: self.wrong[name])
        return f"{category}: {self.examples[category][0]}"

    def without_rows(self) -> Counts:
        """The sums alone."""
        return Counts(self.tried, self.right, self.refused, self.wrong, self.examples)

    def with_one(self, row: str, verdict: str, example: str) -> Counts:
        """One more attempt."""
        inner = self.rows.get(row, Counts())._with(verdict, example)
        outer = self._with(verdict, example)
        return Counts(outer.tried, outer.right, outer.refused, outer.wrong, outer.examples, {**self.rows, row: inner})

    def _with(self, verdict: str, example: str) -> Counts:
        wrong, examples = dict(self.wrong), dict(self.examples)
        if verdict not in (RIGHT, REFUSED):
            wrong[verdict] = wrong.get(verdict, 0) + 1
            examples[verdict] = (*examples.get(verdict, ()), without_place(example))[:EXAMPLES]
        right, refused = self.right + (verdict == RIGHT), self.refused + (verdict == REFUSED)
        return Counts(self.tried + 1, right, refused, wrong, examples, self.rows)

    def __add__(self, other: Counts) -> Counts:
        wrong = {name: self.wrong.get(name, 0) + other.wrong.get(name, 0) for name in {**self.wrong, **other.wrong}}
        examples = {name: (*self.examples.get(name, ()), *other.examples.get(name, ()))[:EXAMPLES] for name in wrong}
        rows = {name: self.rows.get(name, Counts()) + other.rows.get(name, Counts()) for name in {**self.rows, **other.rows}}
        return Counts(self.tried + other.tried, self.right + other.right, self.refused + other.refused, wrong, examples, rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = {"tried": self.tried, "right": self.right, "refused": self.refused, "wrong": self.wrongs}
        if self.wrong:
            plain["categories"] = dict(sorted(self.wrong.items(), key=lambda pair: -pair[1]))
            plain["examples"] = {name: list(found) for name, found in self.examples.items()}
        if self.rows:
            plain["rows"] = {name: counts.to_json() for name, counts in self.rows.items()}
        return plain


def verdict_of(error: BaseException) -> tuple[str, str]:
    """What an exception counts as: a refusal in one sentence, or a traceback; and what it says."""
    says = " ".join(str(error).split())[:240]
    if isinstance(error, MPlusError) and says and "\n" not in str(error).strip():
        return REFUSED, says
    return f"raised {type(error).__name__}", says
