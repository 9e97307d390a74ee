"""What the tools need of one memory, wherever it is: in this process, or on a server. Knows no protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mplus.errors import MPlusError

MOST_PASSAGES = 10
"""Of those that an answer drew on; best first."""


class UnknownIdError(MPlusError):
    """The memory holds nothing under an id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"no memory has the id {id[:100]!r}; search_memories gives the ids there are")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A text that the memory holds under its own name."""

    id: str
    text: str
    tokens: int
    at: float | None


@dataclass(frozen=True, kw_only=True)
class Match:
    """A passage that a search or an answer read."""

    id: str | None
    text: str | None
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer from memory, with what it drew on, best score first."""

    text: str
    passages: list[Match]


class Backend(Protocol):
    """One memory. Every method raises an MPlusError with one sentence where it cannot."""

    async def open(self) -> None:
        """Make sure that the memory is there."""

    async def close(self) -> None:
        """Let it go; everything is stored."""

    async def add(self, id: str, text: str, note: Mapping[str, Any]) -> int:
        """Write a text under a new name; returns its tokens."""

    async def search(self, query: str, limit: int) -> list[Match]:
        """Passages that match, best first."""

    async def get(self, id: str) -> Kept:
        """A text by its name.

        Raises:
            UnknownIdError: there is none.
        """

    async def delete(self, id: str) -> None:
        """Forget a text.

        Raises:
            UnknownIdError: there is none.
        """

    async def delete_all(self) -> int:
        """Forget every text; returns how many there were."""

    async def ask(self, question: str) -> Reply:
        """Answer a question; the memory does not change."""
