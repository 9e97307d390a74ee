"""What a retention run found, as data and as JSON. Computes nothing with models.

Schema 1 of ``retention.json`` promises the keys model, tokens_read, distances, systems (accuracy and asked of each),
ltm_tokens, seed, seconds and versions; the others explain them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from mplus.corpus.stream import Planted
from mplus.evaluation.scoring.text_match import contains_value, wilson_interval

SYSTEMS: Final = ("mplus", "memoryllm", "window")
WINDOW_LONG: Final = "window_long"  # the window baseline again, allowed longer answers: without training it answers in sentences
LONG_ANSWER_TOKENS: Final = 40


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question with what every system said."""

    planted: Planted
    answers: dict[str, str]

    def is_right(self, system: str) -> bool:
        """Whether a system's answer contains the value."""
        return contains_value(self.answers[system], self.planted.fact.value)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``retention.json``."""
        fact = self.planted.fact
        return {
            "distance": self.planted.distance,
            "tokens_back": self.planted.tokens_back,
            "statement": fact.statement,
            "question": fact.question,
            "value": fact.value,
            "answers": self.answers,
            "right": {system: self.is_right(system) for system in self.answers},
        }


@dataclass(frozen=True, kw_only=True)
class RetentionResult:
    """What was read, asked and answered, and under which circumstances."""

    model: str
    tokens_read: int
    distances: list[int]
    answered: list[Answered]
    ltm_tokens: int
    read_budget_tokens: int
    window_tokens: int
    seed: int
    seconds: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)

    def right_and_asked(self, system: str) -> list[tuple[int, int]]:
        """Right answers and questions of one system at each distance."""
        by_distance = [[one for one in self.answered if one.planted.distance == distance] for distance in self.distances]
        return [(sum(one.is_right(system) for one in group), len(group)) for group in by_distance]

    def accuracy(self, system: str) -> list[float]:
        """Share of right answers of one system at each distance."""
        return [right / asked if asked else 0.0 for right, asked in self.right_and_asked(system)]

    def to_json(self) -> dict[str, Any]:
        """The content of ``retention.json``, schema 1."""
        return {
            "schema": 1,
            "model": self.model,
            "tokens_read": self.tokens_read,
            "distances": self.distances,
            "systems": {system: self._system_json(system) for system in SYSTEMS},
            "ltm_tokens": self.ltm_tokens,
            "seed": self.seed,
            "seconds": round(sum(self.seconds.values()), 1),
            "versions": self.versions,
            "seconds_of": {stage: round(seconds, 1) for stage, seconds in self.seconds.items()},
            "read_budget_tokens": self.read_budget_tokens,
            "window_tokens": self.window_tokens,
            WINDOW_LONG: {**self._system_json(WINDOW_LONG), "max_new_tokens": LONG_ANSWER_TOKENS},
            "settings": self.settings,
            "hardware": self.hardware,
            "examples": [one.to_json() for one in self.answered],
        }

    def _system_json(self, system: str) -> dict[str, Any]:
        counts = self.right_and_asked(system)
        return {
            "accuracy": [round(share, 4) for share in self.accuracy(system)],
            "asked": [asked for _, asked in counts],
            "right": [right for right, _ in counts],
            "interval_95": [[round(end, 4) for end in wilson_interval(right, asked)] for right, asked in counts],
        }

    def to_text(self) -> str:
        """``to_json`` as indented JSON text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"
