"""Files of a run, a JSON object a line: samples as they are given, and sessions; a stopped run goes on from them. Knows no models."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from mplus.errors import InputError
from mplus.evaluation.scoring.retrieval_recall import RetrievalRecall
from mplus.runtime.atomic import replace_files
from mplus.settings import RETIRED

SAMPLES: Final = "samples.jsonl"
SETTINGS: Final = "run.json"
"""The settings a run was begun with; one that goes on must have the same."""
SESSIONS: Final = "sessions.jsonl"
"""A line for each time the run was begun or gone on with."""

_SAVE_EVERY_S: Final = 10.0

_Entry = TypeVar("_Entry")

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
        forbidden: values that must not be said.
        confidence: the probability, by the system itself, that what it has read holds the answer; None: it tells none.
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
    forbidden: Sequence[str] = ()
    confidence: float | None = None
    tokens: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    read: RetrievalRecall | None = None

    @property
    def key(self) -> Key:
        """Key that no other sample of a run has."""
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
            self.samples, self._whole_bytes = stored_lines(path, sample_of, kind="sample", advice="begin anew with --overwrite")
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


class Sessions:
    """Earlier sessions of a directory, and this one.

    Args:
        path: of the file; its lines are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._own: dict[str, float] = {}
        self._saved = time.monotonic()

    def spend(self, name: str, seconds: float) -> None:
        """Count seconds for a system, or for reading."""
        self._own[name] = self._own.get(name, 0.0) + seconds
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Put all on disk."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"began": self._began, "last": now, "seconds_of": {k: round(v, 1) for k, v in self._own.items()}})
        text = "".join(f"{one}\n" for one in [*self._earlier, line])
        replace_files({self.path: lambda path: path.write_text(text, encoding="utf-8")})
        self._saved = time.monotonic()

    @property
    def count(self) -> int:
        """Sessions, this one among them."""
        return len(self._earlier) + 1

    @property
    def seconds(self) -> dict[str, float]:
        """Of each system and of reading, over all sessions."""
        found: dict[str, float] = {}
        for one in [*(json.loads(line)["seconds_of"] for line in self._earlier), self._own]:
            for name, value in one.items():
                found[name] = found.get(name, 0.0) + value
        return {name: round(value, 1) for name, value in found.items()}


def stored_lines(path: Path, entry_of: Callable[[Any], _Entry], *, kind: str, advice: str) -> tuple[list[_Entry], int]:
    """The entries of a file of JSON lines, and the bytes of those; a last line that was not written whole does not count.

    Raises:
        InputError: a line is something else.
    """
    entries: list[_Entry] = []
    whole_bytes = 0
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):  # the run was stopped while it wrote this
            break
        try:
            entries.append(entry_of(json.loads(line)))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{path} line {number} is no {kind} of this version ({error}); {advice}") from None
        whole_bytes += len(line)
    return entries, whole_bytes


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
