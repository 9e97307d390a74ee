"""Conversations of dated sessions with questions at their end, whatever file they came from. Knows no tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One speaker's turn, as it is read; ``key`` is its name in evidence lists."""

    key: str
    text: str


@dataclass(frozen=True)
class Session:
    """Turns of one day."""

    date: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, kw_only=True)
class DialogueQuestion:
    """A question about a conversation.

    Attributes:
        row: of the result's table.
        query: what to search for, if that is not ``text``.
        evidence: keys of turns that hold the answer; those that no turn has are of no account.
        unanswerable: right is to say that it is not known; ``answers`` then only tell a person so.
    """

    id: str
    row: str
    text: str
    answers: tuple[str, ...]
    evidence: tuple[str, ...]
    unanswerable: bool = False
    query: str = ""


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """One conversation.

    Attributes:
        name: of its stream.
        where: file and entry, for errors.
    """

    name: str
    where: str
    sessions: tuple[Session, ...]
    asked: tuple[DialogueQuestion, ...]
