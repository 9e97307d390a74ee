"""Reading a script once and asking what is due on the way; every answer is stored as it is given. Prints nothing."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mplus.evaluation.found import Read
from mplus.evaluation.script import Due, Script
from mplus.evaluation.systems import Given, Reader, System

log = logging.getLogger(__name__)

BATCH_QUESTIONS: Final = 16
DEFAULT_MAX_NEW_TOKENS: Final = 10

Progress = Callable[[int, int], None]
IsRight = Callable[[str, Sequence[str]], bool]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer of one system.

    Attributes:
        stream: which stream it is of (a pass or a seed).
        distance: as asked for; ``tokens_back``: as measured.
        position: text tokens read when it was asked.
        ltm_tokens: long-term tokens the memory held then.
    """

    stream: str
    id: str
    cluster: str
    system: str
    distance: int
    tokens_back: int
    position: int
    ltm_tokens: int
    question: str
    answers: Sequence[str]
    given: str
    right: bool
    read: Read | None = None


class Journal:
    """Samples, one JSON object a line, on disk as soon as they are there; and in memory for the summary."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._file = self.path.open("w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._file.close()

    def add(self, samples: Sequence[Sample]) -> None:
        """Store finished samples."""
        for sample in samples:
            self._file.write(json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n")
        self._file.flush()
        self.samples += samples


def run_script(
    script: Script,
    readers: Sequence[Reader],
    systems: Sequence[System],
    journal: Journal,
    *,
    stream: str,
    is_right: IsRight,
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Read all chunks and ask each system what is due at their ends.

    Args:
        stream: name of this stream in the samples.
        is_right: takes an answer and the right ones.
        progress: called with text tokens read and their total.

    Returns:
        seconds spent reading ("read") and asking each system.
    """
    seconds = dict.fromkeys(["read", *(system.name for system in systems)], 0.0)
    position, total = 0, script.tokens
    _say(progress, 0, total)
    for ids in script.chunks:
        started = time.perf_counter()
        for reader in readers:
            reader.read(ids, position)
        position += len(ids)
        seconds["read"] += time.perf_counter() - started
        for system in systems:
            asked = [due for due in script.due.get(position, []) if system.wants(due)]
            started = time.perf_counter()
            for batch in batches(asked):
                given = system.answer(batch, max_new_tokens)
                journal.add([_sample(stream, position, system.name, *one, is_right) for one in zip(batch, given, strict=True)])
            seconds[system.name] += time.perf_counter() - started
        _say(progress, position, total)
    log.info("%s: read %d tokens, asked %d questions", stream, total, script.questions)
    return seconds


def batches(due: Sequence[Due]) -> list[list[Due]]:
    """Questions in groups of about one size, at most 16, of like length so that little is padded."""
    if not due:
        return []
    ordered = sorted(due, key=lambda one: len(one.question.text))
    groups = -(-len(ordered) // BATCH_QUESTIONS)
    size = -(-len(ordered) // groups)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _sample(stream: str, position: int, system: str, due: Due, given: Given, is_right: IsRight) -> Sample:
    question = due.question
    return Sample(
        stream=stream,
        id=question.id,
        cluster=question.cluster,
        system=system,
        distance=due.distance,
        tokens_back=position - question.end,
        position=position,
        ltm_tokens=given.ltm_tokens,
        question=question.text,
        answers=question.answers,
        given=given.text,
        right=is_right(given.text, question.answers),
        read=given.read,
    )


def _say(progress: Any, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
