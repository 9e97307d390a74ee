"""What a change of a memory's sources did, for people and programs. Knows no tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

INEXACT_CONTEXT = (
    "this memory was written with write_context='memory': what was written after a forgotten source has seen it, so its rows stay "
    "marked by it"
)
BY_HAND = (
    "tokens came into this memory or left it by the caller's choice, which cannot be replayed: the others stay where they are"
)


@dataclass(frozen=True, kw_only=True)
class ForgetReport:
    """What ``Memory.forget`` took away.

    Attributes:
        sources: names of the forgotten sources.
        tokens: their text tokens.
        short_term, long_term, evicted, pending: where their memory tokens were.
        beside: memory tokens of other sources that went along, because they shared a block or a chunk (0 where it is exact).
        rows_reencoded: rows of other sources that had been forgotten by age and are back.
        segments_freed: pieces of RAM or disk that hold rows of this memory no longer.
        shared_with: what of this process still holds some of the same rows.
        exact: whether the memory is, bit for bit, the one that never read them; else `reason` says why not.
    """

    sources: list[str]
    tokens: int
    short_term: int
    long_term: int
    evicted: int
    pending: int
    beside: int = 0
    rows_reencoded: int = 0
    segments_freed: int = 0
    shared_with: list[str] = field(default_factory=list)
    exact: bool = True
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What ``Memory.merge`` brought.

    Attributes:
        sources: names under which they came in; tokens: their text tokens.
        duplicates: chunks that both memories had and that count once.
        rows_reencoded: rows that had been forgotten by age and are back.
    """

    sources: list[str]
    tokens: int
    duplicates: int
    rows_reencoded: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
