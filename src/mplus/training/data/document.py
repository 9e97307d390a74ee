"""Chunks to be encoded, what follows them, and what can be asked about them. Knows nothing of where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "fact",
    "generic",
    "passage",
    "chat",
    "nq",
    "dolly",
    "boolq",
    "narrative",
    "table",
    "code",
    "reworded",
    "update",
    "story",
    "absent",
    "prompt",
    "instruction",
    "study",
    "summary",
]
FACT_KINDS = frozenset(("fact", "generic", "chat", "update", "story", "table", "code", "reworded"))
Style = Literal["value", "sentence"]


@dataclass(frozen=True)
class Question:
    """A question about one chunk. `span`: first and one-past-last token of the right place in it.

    `is_fact`: the right place is all that tells the answer (the rest of a passage may help, the rest of a fact's chunk does not).
    `kind`: ``fact`` a named relation, ``generic`` any attribute or event, ``chat`` told in a conversation, ``update`` a value that
    changed, ``story`` several facts in their order, ``table`` a cell, ``code`` a function by what it does, ``reworded`` a fact asked
    for in words that it lacks, ``absent`` what was never written, ``prompt`` a passage stands in the
    question, ``instruction`` nothing to do with memory,
    ``study`` and ``summary`` what a model asked itself; or the published source. An empty span: no place is right.
    `style`: the bare value, or a sentence as the base would say it. `turns`: what user and assistant said before.
    `within`: the passage around the place, of which nothing else is right or wrong; empty: where `is_fact` nothing, else the whole
    chunk. `also`: further places that are right, as older values of the same thing are for a search. `slot`: the thing asked about,
    where other chunks of the same call tell of it too; empty: none does.
    `is_known`: the answer is right, else it is only what was said. `is_taught`: a teacher that sees the place can answer it.
    """

    text: str
    answer: str
    span: tuple[int, int]
    is_fact: bool
    kind: Kind = "fact"
    style: Style = "value"
    turns: tuple[tuple[str, str], ...] = ()
    is_known: bool = True
    is_taught: bool = True
    within: tuple[int, int] = (0, 0)
    also: tuple[tuple[int, int], ...] = ()
    slot: str = ""


@dataclass(frozen=True)
class Document:
    """Token ids of the chunks that are encoded, in order, and of what follows the last one; questions about the first."""

    chunks: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...] = ()
    questions: tuple[Question, ...] = ()
