"""Facts asked for in words that they lack: by what one knows of the world, or by another wording. Knows no tokenizer.

Wordings and pairs of words are others than those of the task ``no-shared-words``, which measures.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from pydantic import TypeAdapter

from mplus.corpus.names import NameGenerator, NamePool
from mplus.corpus.phrasing import varied_question, with_article
from mplus.corpus.values import ValueGenerator

LISTS: Final = TypeAdapter(dict[str, tuple[str, ...]]).validate_json(Path(__file__).with_name("rewordings.json").read_bytes())
"""Pairs "what is said>what is asked", and wordings: {s} a person, {v} what is said, {w} what is asked, {p} that with its article, if it has one."""
WORLD: Final = {"places": "place", "tools": "tool", "kinds": "kind", "topics": "topic", "games": "game", "dishes": "dish"}
REMEMBERED: Final = 200  # things asked for lately, of which no other person is told


@dataclass(frozen=True)
class Rewording:
    """A statement and a question about it; the answer stands in the statement."""

    statement: str
    question: str
    answer: str


class RewordingGenerator:
    """Makes such facts of the training split's names.

    Args:
        known: what was asked for lately; what is asked for here is added.
        pool: the words that names are made of.
    """

    def __init__(self, rng: Random, known: deque[str], pool: NamePool | None = None) -> None:
        self._rng, self._known = rng, known
        self._names = NameGenerator(rng, pool)
        self._values = ValueGenerator(rng, self._names)

    def make(self) -> Rewording:
        """One of any list, the longer ones oftener."""
        rng = self._rng
        lists = (*WORLD, "rewordings", "relations")
        while True:
            name = rng.choices(lists, [len(LISTS[one]) for one in lists])[0]
            parts = rng.choice(LISTS[name]).split(">")
            person = self._names.subject("person").name
            if name == "relations":
                return self._relation(person, *parts)
            said, asked = parts
            if asked not in self._known:
                break
        self._known.append(asked)
        statement, question = said.format(s=person), asked
        if name in WORLD:
            statement = rng.choice(LISTS[f"{WORLD[name]} statements"]).format(s=person, v=said)
            question = rng.choice(LISTS[f"{WORLD[name]} questions"]).format(
                w=asked, p=asked if asked in LISTS["mass"] else with_article(asked)
            )
        return Rewording(statement, varied_question(rng, question, share=0.25), person)

    def _relation(self, person: str, said: str, asked: str, kind: str) -> Rewording:
        """A value of a person, asked for by the name and other words."""
        while True:
            value = self._values.draw(kind)
            question = asked.format(s=person)
            if value.lower() not in question.lower():
                return Rewording(said.format(s=person, v=value), varied_question(self._rng, question, share=0.25), value)
