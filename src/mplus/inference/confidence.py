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
class Judgement:
    """The evidence of one read and how to weigh it, made before the answer is.

    Attributes:
        evidence: None: it cannot be told, or the memory is empty.
        calibration: None: the model has none.
    """

    evidence: ReadEvidence | None
    is_empty: bool
    calibration: Calibration | None

    def of_answer(self, text: str) -> tuple[dict[str, float] | None, float | None]:
        """The evidence and the confidence of an answer, each None where it cannot be told; an empty memory holds no answer."""
        if self.evidence is None:
            return None, 0.0 if self.is_empty and self.calibration is not None else None
        evidence = self.evidence.of_answer(text)
        return evidence, None if self.calibration is None else self.calibration.confidence(evidence)


def judgements_of(reading: Reading, calibration: Calibration | None, tokenizer: Any) -> list[Judgement]:
    """One for each prompt of a reading whose memories have not changed since."""
    found = []
    for row, (memory, ids) in enumerate(zip(reading.memories, reading.query.prompts.rows(), strict=True)):
        assert isinstance(memory, Memory)
        asked = Asked(ids, own_span(tokenizer, ids))
        found.append(Judgement(evidence_of(memory, reading.results[row], asked), _is_empty(memory), calibration))
    return found


def _is_empty(memory: Memory) -> bool:
    return not (len(memory.short_term) or memory.long_term.smallest or memory.pending_tokens)
