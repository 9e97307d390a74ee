"""Questions of the data that a run does not ask, counted by reason and named. Knows no task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

_NAMED: Final = 50  # of a reason, in what is stored
_SHOWN: Final = 5


@dataclass
class LeftOut:
    """Questions that a plan leaves out.

    Attributes:
        counts: questions by reason, which completes "4 questions left out: ...".
        names: the first of each reason, by id or place in the file.
    """

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str, *, count: int = 1) -> None:
        """Note a question (or `count` of one name) that is not asked."""
        if count < 1:
            return
        self.counts[reason] = self.counts.get(reason, 0) + count
        named = self.names.setdefault(reason, [])
        if len(named) < _NAMED:
            named.append(name)

    def take(self, reason: str, names: list[str]) -> None:
        """Note several."""
        for name in names:
            self.add(reason, name)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        """All of it in one sentence; empty if nothing was left out."""
        return "; ".join(self.lines())

    def lines(self) -> list[str]:
        """A line a reason, the most frequent first."""
        return [self._line(reason) for reason in sorted(self.counts, key=lambda one: -self.counts[one])]

    def to_json(self) -> dict[str, Any]:
        """What is stored of it."""
        return {reason: {"questions": count, "first": self.names[reason]} for reason, count in self.counts.items()}

    def _line(self, reason: str) -> str:
        count, shown = self.counts[reason], self.names[reason][:_SHOWN]
        more = f" and {count - len(shown):,} more" if count > len(shown) and len(shown) == _SHOWN else ""
        return f"{count:,} question{'s' * (count > 1)} left out: {reason} ({', '.join(shown)}{more})"
