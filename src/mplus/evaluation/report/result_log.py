"""Samples on disk as they are given, one JSON object a line; a stopped run goes on from them. Knows no models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mplus.errors import InputError
from mplus.evaluation.scoring.retrieval_recall import RetrievalRecall
from mplus.settings import RETIRED

SAMPLES: Final = "samples.jsonl"
SETTINGS: Final = "run.json"
"""The settings a run was begun with; one that goes on must have the same."""

Key = tuple[str, str, str, int]
"""Stream, system, question and distance: what makes a sample the one it is."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer of one system.

    Attributes:
        stream: which stream it is of (a pass, a seed, a document).
        distance: as asked for; ``tokens_back``: as measured.
        position: text tokens read when it was asked.
        ltm_tokens: long-term tokens the memory held then.
        seen_tokens: text tokens in the prompt, of systems that get text.
        row, column: of the table and of the map.
        asked: False where the system was not asked, because the text does not fit it or it has none; noted, so that it counts.
        score: 0 to 1 by the task's metric; for a likelihood nats a token.
        right: whether the score is 1.
        measures: further numbers by name.
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
    score: float = 0.0
    row: str = ""
    column: str = ""
    seen_tokens: int = 0
    asked: bool = True
    unanswerable: bool = False
    tokens: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    read: RetrievalRecall | None = None

    @property
    def key(self) -> Key:
        """What tells it from every other sample of a run."""
        return self.stream, self.system, self.id, self.distance


class ResultLog:
    """Samples, one JSON object a line, on disk as soon as they are there; and in memory for the summary.

    Args:
        resume: keep what an earlier run stored; a last line that was not written whole is dropped.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self.path = path
        self.samples: list[Sample] = []
        self._whole_bytes = 0
        if resume and path.exists():
            self._take_over()
        self.keys = {sample.key: sample for sample in self.samples}
        self.taken_over = len(self.samples)

    def __enter__(self) -> Self:
        if self.samples:
            with self.path.open("r+b") as file:
                file.truncate(self._whole_bytes)
        self._file = self.path.open("a" if self.samples else "w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._file.close()

    def add(self, samples: Sequence[Sample]) -> None:
        """Store finished samples, leaving out those that are there."""
        new = [sample for sample in samples if sample.key not in self.keys]
        self._file.write("".join(json.dumps(dataclasses.asdict(sample), ensure_ascii=False) + "\n" for sample in new))
        self._file.flush()
        self.samples += new
        self.keys |= {sample.key: sample for sample in new}

    def _take_over(self) -> None:
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):  # the run was stopped while it wrote this
                break
            try:
                self.samples.append(sample_of(json.loads(line)))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise InputError(
                    f"{self.path} line {number} is no sample of this version ({error}); begin anew with --overwrite"
                ) from None
            self._whole_bytes += len(line)


def sample_of(data: dict[str, Any]) -> Sample:
    """A sample from what was stored of it."""
    if not isinstance(data, dict):
        raise TypeError("it is no object")
    for name in ("stream", "id", "cluster", "system", "question", "given", "row", "column"):
        if not isinstance(data.get(name, ""), str):
            raise TypeError(f"'{name}' is no text")
    if not isinstance(data["answers"], list) or not all(isinstance(one, str) for one in data["answers"]):
        raise TypeError("'answers' is no list of texts")
    read = data.get("read")
    return Sample(**{**data, "read": None if read is None else RetrievalRecall(**read)})


def stored_samples(directory: Path) -> list[Sample]:
    """All samples of a run."""
    return ResultLog(directory / SAMPLES, resume=True).samples


def without_retired(geometry: Any) -> Any:
    """A stored geometry without the settings that have one value only by now."""
    if not isinstance(geometry, dict):
        return geometry
    return {name: value for name, value in geometry.items() if name not in RETIRED or value != RETIRED[name]}
