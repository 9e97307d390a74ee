"""Ways to ask about facts: for a sentence, behind a first question, about what was never written. Knows facts, no tokenizer."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Final

from pydantic import TypeAdapter

from mplus.corpus.facts import Fact
from mplus.corpus.first_person import MYSELF
from mplus.corpus.phrasing import capital
from mplus.training.data.document import Question

PHRASES: Final = TypeAdapter(dict[str, tuple[str, ...]]).validate_json(
    Path(__file__).with_name("asking_phrases.json").read_bytes()
)
"""Wordings by purpose: {q} a question, {l} the same with a small letter, {s} a statement, {n} a noun, {date} a date."""
_ASKS_VALUE: Final = re.compile(r"(what|who|whom|whose|when|where|which|how (many|much|long|old|far|often))\b", re.IGNORECASE)
_FIRST_PERSON: Final = re.compile(r"\b(I|I'm|I've|we|us|myself)\b")


def asks_value(question: str) -> bool:
    """Tell whether a question asks for a value: by its first word, as who, when, how many."""
    return _ASKS_VALUE.match(question.strip()) is not None


def in_a_sentence(rng: Random, question: str) -> str:
    """A question that wants a sentence; one that asks for a value says so in words."""
    return worded(rng, "sentence", q=question) if asks_value(question) else question


def sentence_of(fact: Fact) -> str | None:
    """A fact as an answer says it, with "your" for the writer's "my"; None where that would take more than a word."""
    if fact.subject == MYSELF or _FIRST_PERSON.search(fact.statement):
        return None
    return capital(re.sub(r"\b([Mm]y|[Oo]ur)\b", "your", fact.statement))


def refusal(rng: Random) -> str:
    """The answer to what was never written."""
    return rng.choice(PHRASES["refusals"])


def absent(rng: Random, fact: Fact) -> Question:
    """A question about a fact that stands nowhere."""
    return Question(fact.question, refusal(rng), (0, 0), False, "absent", "sentence", is_taught=False)


def follow_up(rng: Random, first: Fact, second: Fact) -> tuple[str, tuple[tuple[str, str], ...]] | None:
    """A short second question about the subject of the first, and the turns before it; None: they are not of one subject."""
    if first.subject != second.subject or second.kind != "generic" or " " in second.relation.strip():
        return None
    answer = sentence_of(first) if rng.random() < 0.5 else None
    return worded(rng, "follow_ups", n=second.relation), ((first.question, answer or first.value),)


def worded(rng: Random, purpose: str, **words: str) -> str:
    """One of a purpose's wordings, filled in."""
    if "q" in words:
        words["l"] = words["q"][:1].lower() + words["q"][1:]
    return rng.choice(PHRASES[purpose]).format(**words)
