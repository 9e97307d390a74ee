"""Tokens a second of a server's requests: ``python -m benchmarks.serving_levels benchmarks/results/serving/levels-log-*.json``.

The file has the requests of a log of ``benchmarks.serving_load --levels``. Requests of one route that follow each other without a pause
are a level; its clients are the most that were served in one moment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Asked(NamedTuple):
    """One request."""

    route: str
    begun_s: float
    seconds: float
    tokens: int

    @property
    def ended_s(self) -> float:
        """When its answer was whole."""
        return self.begun_s + self.seconds


def levels_of(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Requests by level, in the order of time."""
    levels: list[list[Asked]] = []
    alone = False
    for one in sorted(asked, key=lambda one: one.begun_s):
        last = levels[-1] if levels else []
        pause = not last or one.begun_s > max(other.ended_s for other in last) + 0.001
        starts_alone = pause and not any(0 <= other.begun_s - one.begun_s < 0.05 for other in asked if other is not one)
        if not last or last[0].route != one.route or (pause and not (alone and starts_alone)):
            levels.append([])
            alone = starts_alone
        levels[-1].append(one)
    return levels


def row_of(level: Sequence[Asked]) -> str:
    """Route, clients, answers, tokens of an answer, tokens a second."""
    clients = max(sum(other.begun_s <= one.begun_s + 0.05 < other.ended_s for other in level) for one in level)
    tokens, seconds = sum(one.tokens for one in level), max(one.ended_s for one in level) - level[0].begun_s
    return f"{level[0].route:22} {clients:3} clients {len(level):4} answers {tokens / len(level):5.1f} tokens each {tokens / seconds:6.1f} tokens/s"


def main(arguments: Sequence[str]) -> int:
    """Print the levels of each file."""
    for name in arguments:
        requests = json.loads(Path(name).read_text(encoding="utf-8"))["requests"]
        for level in levels_of([Asked(*one[:4]) for one in requests]):
            print(row_of(level))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
