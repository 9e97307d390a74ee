"""Confidences of the reads of one pass: evidence, weighed by a model's calibration. Knows a reading, no way to decode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mplus.attach.read_pass import Reading
from mplus.memory.memory import Memory
from mplus.settings.calibration import Calibration
from mplus.text.search_query import own_span
from mplus.trace.evidence import Asked, ReadEvidence, evidence_of


@dataclass(frozen=True)
class ReadConfidence:
    """What is known of one read before its answer is made.

    Attributes:
        evidence: None: the memory is empty.
    """

    calibration: Calibration
    evidence: ReadEvidence | None

    def of_answer(self, text: str) -> float:
        """The probability that the memory holds what was asked for: 0 where it holds nothing."""
        return 0.0 if self.evidence is None else self.calibration.confidence(self.evidence.of_answer(text))


def of_reading(reading: Reading, calibration: Calibration | None, tokenizer: Any) -> list[ReadConfidence | None]:
    """For each prompt of a reading whose memories have not changed since; None: its confidence cannot be told."""
    if calibration is None:
        return [None] * len(reading.memories)
    return [
        ReadConfidence(calibration, evidence) if evidence is not None or _is_empty(memory) else None
        for memory, evidence in zip(reading.memories, evidence_in(reading, tokenizer), strict=True)
    ]


def evidence_in(reading: Reading, tokenizer: Any) -> list[ReadEvidence | None]:
    """The evidence of each prompt of a reading whose memories have not changed since."""
    found: list[ReadEvidence | None] = []
    for row, (memory, ids) in enumerate(zip(reading.memories, reading.query.prompts.rows(), strict=True)):
        results = reading.results[row]
        known = isinstance(memory, Memory) and bool(results)
        found.append(evidence_of(memory, results, Asked(ids, own_span(tokenizer, ids))) if known else None)
    return found


def _is_empty(memory: object) -> bool:
    return isinstance(memory, Memory) and not (len(memory.short_term) or memory.long_term.smallest or memory.pending_tokens)
