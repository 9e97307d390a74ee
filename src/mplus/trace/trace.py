"""A trace: passages of sources that one prompt read, with scores and attention. Plain values; knows no memory and no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from mplus.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA: Final = 1
By = Literal["score", "attention"]


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Neighbouring tokens of one source that a prompt read, at most some dozens.

    Attributes:
        source: its name; "" for text that was written without one, None where it is not known (memory that came with the model, and what
            an older version wrote in each layer apart).
        start, stop: text tokens of the source; where it is not known, positions in memory.
        text: None where the memory did not keep token ids.
        tokens: memory tokens read.
        long_term: those of them that came from long-term memory; the others are short-term.
        retrieved: whether they were chosen for this prompt; short-term memory stands before every prompt.
        to_prompt: memory tokens between the passage and the prompt (where layers differ, in the layer where they are fewest).
        layers: share of the layers that read a token of it, mean over its tokens.
        score: of its own tokens: how well each searching token is matched by the best of them, weighted (late interaction); or the best
            token's, mean over all layers (per-layer retrieval). None where nothing was scored.
        attention: share of all attention, mean over layers, heads and the queries that chose the answer; None where it was not measured.
    """

    source: str | None
    start: int
    stop: int
    text: str | None
    tokens: int
    long_term: int
    retrieved: bool
    to_prompt: int
    layers: float = 1.0
    score: float | None = None
    attention: float | None = None

    @property
    def label(self) -> str:
        """Source and span in words."""
        return f"{source_label(self.source)} [{self.start:,}:{self.stop:,}]"

    @property
    def place(self) -> str:
        """Where its tokens were kept, and whether they were chosen, in words."""
        if not self.long_term:
            return "short-term, retrieved" if self.retrieved else "short-term"
        return "long-term" if self.long_term == self.tokens else "both, retrieved"


@dataclass(frozen=True, kw_only=True)
class SourceUse:
    """A source's part in a read.

    Attributes:
        name: as ``Passage.source``.
        passages, tokens: read of it.
        retrieved: tokens of it that were chosen for this prompt.
        score, attention: its best passage's score, its passages' attention together.
    """

    name: str | None
    passages: int
    tokens: int
    retrieved: int
    score: float | None
    attention: float | None


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Everything that one prompt read from a memory.

    Attributes:
        passages: best score first, those without a score behind them; of equal ones the nearest to the prompt first.
        bos_attention: attention on memory's BOS; None where attention was not measured.
        per_layer: whether each layer retrieved for itself.
        note: what is missing and why; empty where nothing is.
    """

    passages: tuple[Passage, ...] = ()
    bos_attention: float | None = None
    per_layer: bool = False
    note: str = ""

    @cached_property
    def retrieved(self) -> tuple[Passage, ...]:
        """The passages that were chosen for this prompt, best score first."""
        return tuple(passage for passage in self.passages if passage.retrieved)

    @cached_property
    def sources(self) -> tuple[SourceUse, ...]:
        """Sources by their best score, then by the tokens read of them."""
        by_source: dict[str | None, list[Passage]] = {}
        for passage in self.passages:
            by_source.setdefault(passage.source, []).append(passage)
        return ranked([_use_of(name, own) for name, own in by_source.items()], "score")

    @property
    def summary(self) -> str:
        """One sentence: how much was retrieved, and from which sources."""
        from mplus.trace.table import summary_of

        return summary_of(self)

    @property
    def memory_attention(self) -> float | None:
        """Attention on all memory together; what is missing to one fell on BOS, on the prompt and on the answer itself."""
        return _total(self.passages)

    def ranked(self, by: By = "score") -> tuple[Passage, ...]:
        """All passages, the highest first; those without a number last.

        Raises:
            InputError: by attention, and it was not measured.
        """
        self._check(by)
        return ranked(self.passages, by)

    def ranked_sources(self, by: By = "score") -> tuple[SourceUse, ...]:
        """All sources, as ``ranked``."""
        self._check(by)
        return ranked(self.sources, by)

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads them."""
        own = dataclasses.asdict(self)
        return {"schema": SCHEMA, **own, "sources": [dataclasses.asdict(one) for one in self.sources]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """Read what ``to_json`` gave.

        Raises:
            InputError: it is of another form or version.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"this is no trace of schema {SCHEMA}, but {found!r}; give what trace.to_json() returned")
        try:
            fields = {name: data[name] for name in ("bos_attention", "per_layer", "note")}
            return cls(passages=tuple(Passage(**one) for one in data["passages"]), **fields)
        except (KeyError, TypeError) as error:
            raise InputError(f"this trace is damaged ({error}); give what trace.to_json() returned") from None

    def plot(self, path: str | Path) -> None:
        """Write a PNG: where in its source each passage stands, and the best passages.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from mplus.trace.picture import draw

        draw(self, path)

    def __rich__(self) -> Table:
        from mplus.trace.table import table_of

        return table_of(self)

    def __str__(self) -> str:
        from mplus.trace.table import text_of

        return text_of(self)

    def _check(self, by: By) -> None:
        if by not in ("score", "attention"):
            raise InputError(f"passages are ranked by 'score' or by 'attention', got {by!r}")
        if by == "attention" and self.passages and self.bos_attention is None:
            raise InputError("attention was not measured for this answer; ask with trace='attention'")


@dataclass(frozen=True)
class Answer:
    """An answer, with what it drew on.

    Attributes:
        text: as it is returned where nothing more is asked for.
        trace: of the prompt it answers; an empty one with a note where only the confidence was asked for.
        confidence: the probability, 0 to 1, that the memory holds what was asked for; None where the model has no calibration, or its
            read shows no evidence.
        evidence: what the confidence is made from, by the names of ``mplus.trace.evidence.EVIDENCE``; None where it cannot be told.
    """

    text: str
    trace: Trace
    confidence: float | None = None
    evidence: Mapping[str, float] | None = None

    def __str__(self) -> str:
        return self.text


Scored = TypeVar("Scored", Passage, SourceUse)


def source_label(name: str | None) -> str:
    """A source's name, or what is said in place of one."""
    if name is None:
        return "(source not known)"
    return name or "(no name)"


def ranked(items: Sequence[Scored], by: By) -> tuple[Scored, ...]:
    """Items by a number of theirs, the highest first; those without it last, in their order."""
    return tuple(sorted(items, key=lambda one: (getattr(one, by) is None, -(getattr(one, by) or 0.0))))


def _use_of(name: str | None, passages: Sequence[Passage]) -> SourceUse:
    scores = [passage.score for passage in passages if passage.score is not None]
    return SourceUse(
        name=name,
        passages=len(passages),
        tokens=sum(passage.tokens for passage in passages),
        retrieved=sum(passage.tokens for passage in passages if passage.retrieved),
        score=max(scores, default=None),
        attention=_total(passages),
    )


def _total(passages: Sequence[Passage]) -> float | None:
    shares = [passage.attention for passage in passages if passage.attention is not None]
    return sum(shares) if shares else None
