"""Recall by the distance of a fact from the end of a text, as the demo shows and stores it. Computes nothing with models.

Schema 1 of ``retention.json`` promises the keys model, tokens_read, distances, systems (accuracy and asked of each),
ltm_tokens, seed, seconds and versions; the others explain them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.report.summary import Summary
from mplus.evaluation.scoring.text_match import wilson_interval
from mplus.evaluation.systems.protocol import LONG_ANSWER_TOKENS

SYSTEMS: Final = ("mplus", "memoryllm", "window")
WINDOW_LONG: Final = "window_long"  # the window baseline again, allowed longer answers: without training it answers in sentences


@dataclass(frozen=True)
class Retention:
    """A run of the task ``demo``, by distance."""

    summary: Summary

    @cached_property
    def distances(self) -> list[int]:
        """Ascending."""
        return sorted({sample.distance for sample in self.summary.samples})

    @cached_property
    def answers(self) -> dict[str, dict[str, Sample]]:
        """Samples by question, the nearest first, and system."""
        asked: dict[str, dict[str, Sample]] = {}
        for sample in self.summary.samples:
            asked.setdefault(sample.id, {})[sample.system] = sample
        return asked

    @property
    def has_long_window(self) -> bool:
        """Tell whether the window was asked for longer answers too."""
        return any(sample.system == WINDOW_LONG for sample in self.summary.samples)

    @property
    def tokens_read(self) -> int:
        """Length of the text."""
        return int(sum(about["tokens"] for about in self.summary.streams_about.values()))

    @property
    def read_budget_tokens(self) -> int:
        """Memory tokens a prompt reads: N + K0."""
        return int(self.summary.context["read_budget_tokens"])

    @property
    def window_tokens(self) -> int:
        """Tokens of the text in the plain window."""
        return max((sample.seen_tokens for sample in self.summary.samples), default=0)

    @property
    def seconds(self) -> dict[str, float]:
        """Of reading and of each system."""
        return {name: value for name, value in self.summary.context["seconds_of"].items() if name != WINDOW_LONG}

    def right_and_asked(self, system: str) -> list[tuple[int, int]]:
        """Right answers and questions of one system at each distance."""
        own = [sample for sample in self.summary.samples if sample.system == system]
        groups = [[sample.right for sample in own if sample.distance == distance] for distance in self.distances]
        return [(sum(group), len(group)) for group in groups]

    def accuracy(self, system: str) -> list[float]:
        """Share of right answers of one system at each distance."""
        return [right / asked if asked else 0.0 for right, asked in self.right_and_asked(system)]

    def to_json(self) -> dict[str, Any]:
        """The content of ``retention.json``, schema 1."""
        context, samples = self.summary.context, self.summary.samples
        questions = context["settings"]["limit"] or max(asked for _, asked in self.right_and_asked("mplus"))
        return {
            "schema": 1,
            "model": self.summary.model,
            "tokens_read": self.tokens_read,
            "distances": self.distances,
            "systems": {system: self._system_json(system) for system in SYSTEMS},
            "ltm_tokens": max(sample.ltm_tokens for sample in samples),
            "seed": context["settings"]["seed"],
            "seconds": round(sum(self.seconds.values()), 1),
            "versions": context["versions"],
            "seconds_of": self.seconds,
            "read_budget_tokens": self.read_budget_tokens,
            "window_tokens": self.window_tokens,
            **(
                {WINDOW_LONG: {**self._system_json(WINDOW_LONG), "max_new_tokens": LONG_ANSWER_TOKENS}}
                if self.has_long_window
                else {}
            ),
            "settings": {
                "tokens": context["settings"]["tokens"],
                "questions": questions,
                "max_new_tokens": context["max_new_tokens"],
                "geometry": context["geometry"],
            },
            "hardware": context["hardware"],
            "examples": [self._example(given) for given in self.answers.values()],
        }

    def to_text(self) -> str:
        """``to_json`` as indented JSON text."""
        return json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n"

    def _example(self, given: dict[str, Sample]) -> dict[str, Any]:
        one = given["mplus"]
        return {
            "distance": one.distance,
            "tokens_back": one.tokens_back,
            "statement": next(about["statements"][one.id] for about in self.summary.streams_about.values()),
            "question": one.question,
            "value": one.answers[0],
            "answers": {system: sample.given for system, sample in given.items()},
            "right": {system: sample.right for system, sample in given.items()},
        }

    def _system_json(self, system: str) -> dict[str, Any]:
        counts = self.right_and_asked(system)
        return {
            "accuracy": [round(share, 4) for share in self.accuracy(system)],
            "asked": [asked for _, asked in counts],
            "right": [right for right, _ in counts],
            "interval_95": [[round(end, 4) for end in wilson_interval(right, asked)] for right, asked in counts],
        }
