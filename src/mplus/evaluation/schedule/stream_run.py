"""Reading a script once and measuring what is due on the way; every answer is stored as it is given. Prints nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from mplus.evaluation.report.result_log import ResultLog, Sample
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.scoring.metrics import Metric
from mplus.evaluation.systems.clock import Clock
from mplus.evaluation.systems.protocol import Reader, Response, System

log = logging.getLogger(__name__)

BATCH_QUESTIONS: Final = 16
DEFAULT_MAX_NEW_TOKENS: Final = 10
SPEED_TOKENS: Final = 16
"""Tokens decoded behind the first one where speed is measured."""

Progress = Callable[[int, int], None]
Spend = Callable[[str, float], None]
Measure = Literal["answer", "reading", "likelihood", "speed"]


def run_script(
    script: EvalStream,
    readers: Sequence[Reader],
    systems: Sequence[System],
    journal: ResultLog,
    *,
    stream: str,
    metric: Metric | None,
    measure: Measure = "answer",
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    progress: Progress | None = None,
    spend: Spend | None = None,
) -> None:
    """Read all chunks and ask each system what is due at their ends.

    What the journal already holds is not asked again, and nothing is read behind the last question that is missing. A batch of which a part
    is missing is asked as a whole, so that answers do not depend on where an earlier run was stopped.

    Args:
        stream: name of this stream in the samples.
        metric: scores an answer; None where nothing is answered.
        progress: called with text tokens read and their total.
        spend: called with "read" or a system's name, and seconds.
    """
    spend = spend or (lambda name, seconds: None)
    position, total = 0, script.tokens
    last = last_missing(script, [system.name for system in systems], journal, stream)
    _say(progress, 0, total)
    for ids in [[], *script.chunks]:
        if ids and position >= last:
            break
        started = time.perf_counter()
        for reader in readers if ids else ():
            reader.read(ids, position)
        position += len(ids)
        spend("read", time.perf_counter() - started)
        for system in systems:
            started = time.perf_counter()
            spared_s = _ask(system, script.due.get(position, []), position, stream, metric, measure, max_new_tokens, journal)
            spend(system.name, time.perf_counter() - started + spared_s)
        _say(progress, position, total)
    log.info("%s: read %d of %d tokens, %d questions", stream, position, total, script.questions)
    _say(progress, total, total)


def _ask(
    system: System,
    due: Sequence[ScheduledQuestion],
    position: int,
    stream: str,
    metric: Metric | None,
    measure: Measure,
    max_new_tokens: int,
    journal: ResultLog,
) -> float:
    """Ask one system what is due here and store the answers; what it cannot be asked is noted.

    Returns:
        seconds it was spared because another system had been asked the same.
    """
    spared_s = 0.0
    wanted = [(one, system.wants(one, max_new_tokens)) for one in due]
    journal.add([_sample(stream, position, system.name, one, None, None) for one, wants in wanted if not wants])
    for batch in batches([one for one, wants in wanted if wants], 1 if measure == "speed" else BATCH_QUESTIONS):
        if all((stream, system.name, one.question.id, one.distance) in journal.keys for one in batch):
            continue
        given = _measured(system, batch, measure, max_new_tokens)
        spared_s += sum(one.spared_s for one in given)
        journal.add(
            [
                _sample(stream, position, system.name, one, got, metric, measure=measure)
                for one, got in zip(batch, given, strict=True)
            ]
        )
    return spared_s


def batches(due: Sequence[ScheduledQuestion], largest: int = BATCH_QUESTIONS) -> list[list[ScheduledQuestion]]:
    """Questions in groups of about one size, of like length so that little is padded."""
    if not due:
        return []
    ordered = sorted(due, key=lambda one: len(one.question.text))
    groups = -(-len(ordered) // largest)
    size = -(-len(ordered) // groups)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def last_missing(script: EvalStream, systems: Sequence[str], journal: ResultLog, stream: str) -> int:
    """The last position where something is due that the journal lacks; -1 if it has everything."""
    missing = [
        position
        for position, asked in script.due.items()
        if any((stream, system, due.question.id, due.distance) not in journal.keys for system in systems for due in asked)
    ]
    return max(missing, default=-1)


def _measured(system: System, batch: list[ScheduledQuestion], measure: Measure, max_new_tokens: int) -> list[Response]:
    if measure == "likelihood":
        return system.likelihood(batch)
    if measure == "speed":
        return [_speed(system, due) for due in batch]
    return system.answer(batch, 1 if measure == "reading" else max_new_tokens)


def _speed(system: System, due: ScheduledQuestion) -> Response:
    """Seconds to the first token and tokens a second behind it; one turn before the clock runs."""
    system.answer([due], 1, clock=Clock())
    clock = Clock()
    given = system.answer([due], 1 + SPEED_TOKENS, clock=clock)[0]
    measures = {
        "first_token_ms": 1e3 * clock.first_token_s,
        "tokens_per_s": clock.tokens_per_s,
        "size_mb": system.size_bytes(due) / 1e6,
    }
    return Response(given.text, given.ltm_tokens, given.read, seen_tokens=given.seen_tokens, measures=measures)


def _sample(
    stream: str,
    position: int,
    system: str,
    due: ScheduledQuestion,
    given: Response | None,
    metric: Metric | None,
    *,
    measure: Measure = "answer",
) -> Sample:
    """What is stored of one question; ``given`` is None where the system was not asked."""
    question = due.question
    score = None if given is None else _score(given, question, metric, measure)
    got = given or Response()
    return Sample(
        stream=stream,
        id=question.id,
        cluster=question.cluster,
        system=system,
        asked=score is not None,
        distance=due.distance,
        tokens_back=position - question.end,
        position=position,
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
        tokens=got.tokens,
        measures={name: round(value, 3) for name, value in got.measures.items()},
        read=got.read,
    )


def _score(given: Response, question: Question, metric: Metric | None, measure: Measure) -> float | None:
    """The number a sample counts with; None where there is none."""
    if measure == "likelihood":
        assert given.nats is not None
        return given.nats / given.tokens
    if measure == "reading":
        return None if given.read is None else given.read.share
    return metric(given.text, question) if metric is not None else 0.0


def _say(progress: Any, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
