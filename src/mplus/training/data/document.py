"""Chunks to be encoded, what follows them, and what can be asked about them. Knows nothing of where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fact", "generic", "passage", "chat", "nq", "dolly"]
FACT_KINDS = frozenset(("fact", "generic", "chat"))


@dataclass(frozen=True)
class Question:
    """A question about one chunk. `span`: first and one-past-last token of the right place in it.

    `is_fact`: the right place is all that tells the answer (the rest of a passage may help, the rest of a fact's chunk does not).
    `kind`: ``fact`` a named relation, ``generic`` any attribute or event, ``chat`` told in a conversation; or the published source.
    """

    text: str
    answer: str
    span: tuple[int, int]
    is_fact: bool
    kind: Kind = "fact"


@dataclass(frozen=True)
class Document:
    """Token ids of the chunks that are encoded, in order, and of what follows the last one; questions about the first."""

    chunks: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...] = ()
    questions: tuple[Question, ...] = ()
