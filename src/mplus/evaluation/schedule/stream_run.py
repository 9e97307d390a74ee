"""One pass over a stream, asking what is due on the way; every answer is stored as it is given. Prints nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from mplus.evaluation.report.result_log import ResultLog, Sample
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.scoring.metrics import Metric
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.protocol import Reader, Response, System

_log = logging.getLogger(__name__)

BATCH_QUESTIONS: Final = 16
DEFAULT_MAX_NEW_TOKENS: Final = 10
SPEED_TOKENS: Final = 16
"""Tokens decoded behind the first one where speed is measured."""

Measure = Literal["answer", "reading", "likelihood", "speed"]


def _nothing(*_: Any) -> None:
    """The callback that does nothing."""


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Callbacks of a run.

    Attributes:
        progress: with a stream's name, text tokens read and their total.
        answered: with a system's name, questions of this stop that are answered (and stored), their number, and their samples.
        spend: with "read" or a system's name, and seconds.
    """

    progress: Callable[[str, int, int], None] = _nothing
    answered: Callable[[str, int, int, list[Sample]], None] = _nothing
    spend: Callable[[str, float], None] = _nothing


def run_stream(
    stream: EvalStream,
    readers: Sequence[Reader],
    systems: Sequence[System],
    log: ResultLog,
    *,
    name: str,
    metric: Metric | None,
    measure: Measure = "answer",
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    hooks: Hooks | None = None,
) -> None:
    """Read all chunks and ask each system what is due at their ends.

    What the log already holds is not asked again, nothing is read behind the last question that is missing, nor by readers whose systems
    lack nothing. A batch of which a part is missing is asked as a whole, so that answers do not depend on where an earlier run was stopped.

    Args:
        name: of this stream in the samples.
        metric: scores an answer; None where nothing is answered.
    """
    hooks = hooks or Hooks()
    position, total = 0, stream.tokens
    lacking = {one.name for one in systems if last_missing(stream, [one.name], log, name) >= 0}
    readers = [reader for reader in readers if reader.serves & lacking]
    last = last_missing(stream, [one.name for one in systems], log, name)
    hooks.progress(name, 0, total)
    for ids in [[], *stream.chunks]:
        if ids and position >= last:
            break
        started = time.perf_counter()
        for reader in readers if ids else ():
            reader.read(ids, position, stream.source_at(position))
        position += len(ids)
        for reader in readers if position in stream.forgets else ():
            reader.forget(stream.forgets[position])
        hooks.spend("read", time.perf_counter() - started)
        for system in systems:
            started = time.perf_counter()
            ask = _Asking(system, stream, position, name, metric, measure, max_new_tokens, log, hooks)
            spared_s = ask.run(stream.due.get(position, []))
            hooks.spend(system.name, time.perf_counter() - started + spared_s)
        hooks.progress(name, position, total)
    _log.info("%s: read %d of %d tokens, %d questions", name, position, total, stream.questions)
    hooks.progress(name, total, total)


@dataclass(frozen=True)
class _Asking:
    """One system at one position of a stream."""

    system: System
    stream: EvalStream
    position: int
    name: str
    metric: Metric | None
    measure: Measure
    max_new_tokens: int
    log: ResultLog
    hooks: Hooks

    def run(self, due: Sequence[ScheduledQuestion]) -> float:
        """Ask what is due here and store the answers; what the system cannot be asked is noted.

        Returns:
            seconds it was spared because another system had been asked the same.
        """
        spared_s, system, samples = 0.0, self.system, list[Sample]()
        wanted = [(one, system.wants(one, self.max_new_tokens)) for one in due]
        self.log.add([self.sample(one, None) for one, wants in wanted if not wants])
        asked = [one for one, wants in wanted if wants]
        for batch in self._batches(asked):
            if not all((self.name, system.name, one.question.id, one.distance) in self.log.keys for one in batch):
                responses = _measured(system, batch, self.measure, self.max_new_tokens)
                spared_s += sum(one.spared_s for one in responses)
                self.log.add([self.sample(one, response) for one, response in zip(batch, responses, strict=True)])
            samples += [self.log.keys[self.name, system.name, one.question.id, one.distance] for one in batch]
            self.hooks.answered(system.name, len(samples), len(asked), samples)
        return spared_s

    def _batches(self, due: list[ScheduledQuestion]) -> list[list[ScheduledQuestion]]:
        if self.measure == "speed":
            return batches(due, 1)
        if self.stream.in_order:
            size = self.system.batch_in_order
            return [due[start : start + size] for start in range(0, len(due), size)]
        return batches(due)

    def sample(self, due: ScheduledQuestion, response: Response | None) -> Sample:
        """Stored record of one question; ``response`` is None where the system was not asked."""
        question, measure = due.question, self.measure
        score = None if response is None else _score(response, question, self.metric, measure)
        got = response or Response()
        return Sample(
            stream=self.name,
            id=question.id,
            cluster=question.cluster,
            system=self.system.name,
            asked=score is not None,
            distance=due.distance,
            tokens_back=self.position - question.end,
            position=self.position,
            ltm_tokens=got.ltm_tokens,
            question=question.text,
            answers=question.answers,
            given=got.text,
            right=measure == "answer" and score is not None and score >= 1.0,
            score=round(score or 0.0, 6),
            row=question.row,
            column=question.column,
            seen_tokens=got.seen_tokens,
            unanswerable=question.unanswerable,
            forbidden=question.forbidden,
            confidence=got.confidence,
            tokens=got.tokens,
            measures={name: round(value, 3) for name, value in got.measures.items()},
            read=got.read,
        )


def batches(due: Sequence[ScheduledQuestion], largest: int = BATCH_QUESTIONS) -> list[list[ScheduledQuestion]]:
    """Questions in groups of about one size, of like length so that little is padded."""
    if not due:
        return []
    ordered = sorted(due, key=lambda one: len(one.question.text))
    groups = -(-len(ordered) // largest)
    size = -(-len(ordered) // groups)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def last_missing(stream: EvalStream, systems: Sequence[str], log: ResultLog, name: str) -> int:
    """The last position where something is due that the result log lacks; -1 if it has everything."""
    missing = [
        position
        for position, asked in stream.due.items()
        if any((name, system, due.question.id, due.distance) not in log.keys for system in systems for due in asked)
    ]
    return max(missing, default=-1)


def _measured(system: System, batch: list[ScheduledQuestion], measure: Measure, max_new_tokens: int) -> list[Response]:
    if measure == "likelihood":
        return system.likelihood(batch)
    if measure == "speed":
        return [_speed(system, due) for due in batch]
    return system.reading(batch) if measure == "reading" else system.answer(batch, max_new_tokens)


def _speed(system: System, due: ScheduledQuestion) -> Response:
    """Seconds to the first token and tokens a second behind it; one turn before the clock runs."""
    system.answer([due], 1, clock=TokenClock())
    clock = TokenClock()
    response = system.answer([due], 1 + SPEED_TOKENS, clock=clock)[0]
    measures = {
        "first_token_ms": 1e3 * clock.first_token_s,
        "tokens_per_s": clock.tokens_per_s,
        "size_mb": system.size_bytes(due) / 1e6,
    }
    return replace(response, measures=measures)


def _score(response: Response, question: Question, metric: Metric | None, measure: Measure) -> float | None:
    """The number a sample counts with; None where there is none."""
    if measure == "likelihood":
        assert response.nats is not None
        return response.nats / response.tokens
    if measure == "reading":
        return None if response.read is None else response.read.share
    return metric(response.text, question) if metric is not None else 0.0
