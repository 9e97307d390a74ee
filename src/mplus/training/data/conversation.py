"""Transcripts of chats in which facts stand in passing. Knows a tokenizer's chat template, no model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from mplus.corpus.facts import Fact
from mplus.corpus.first_person import MYSELF
from mplus.corpus.phrasing import possessive
from mplus.training.data.draft import Draft, Place

_PHRASES: Final = json.loads(Path(__file__).with_name("chat_phrases.json").read_text(encoding="utf-8"))
"""Phrases before and after a fact, replies to it, and names of the two speakers."""


@dataclass(frozen=True)
class Turn:
    """One side's words, and the fact in them."""

    from_user: bool
    text: str
    fact: Fact | None = None


class Conversations:
    """Makes transcripts.

    Args:
        small_talk: (request, reply) pairs that fill the conversation between the facts.
    """

    def __init__(self, tokenizer: Any, small_talk: Sequence[tuple[str, str]]) -> None:
        self._tokenizer = tokenizer
        self._small_talk = small_talk or (("How are you?", "I am fine, thank you. How can I help you?"),)

    def fill(self, draft: Draft, rng: Random, facts: Sequence[Fact], characters: int, names: tuple[str, str]) -> None:
        """Make an empty draft a transcript of at least `characters` characters, with the facts near its beginning.

        Args:
            names: two speakers, for transcripts whose speakers have names; what the first says about "my" is asked by name.
        """
        turns = list(self._turns(rng, facts, characters))
        named = False
        if getattr(self._tokenizer, "chat_template", None) and rng.random() < 0.55:
            messages = [{"role": "user" if turn.from_user else "assistant", "content": turn.text} for turn in turns]
            draft.text = self._tokenizer.apply_chat_template(messages, tokenize=False)
        else:
            named = rng.random() < 0.5
            sides = names if named else rng.choice(_PHRASES["speakers"])
            between = rng.choice(("\n", "\n", "\n\n"))
            draft.text = between.join(f"{sides[not turn.from_user]}: {turn.text}" for turn in turns)
        at = 0
        for turn in turns:
            if turn.fact is None or (first := draft.text.find(turn.fact.statement, at)) < 0:
                continue
            at = first + len(turn.fact.statement)
            question = _by_name(turn.fact, names[0]) if named else turn.fact.question
            if question is not None:
                draft.places.append(Place(question, turn.fact.value, "chat", first, at))

    def _turns(self, rng: Random, facts: Sequence[Fact], characters: int) -> Iterator[Turn]:
        """User and assistant by turns; about as many words of small talk as fit between the facts."""
        waiting = list(facts)
        said = 0
        while said < characters or waiting:
            due = waiting and rng.random() < max(0.3, len(waiting) * 220 / max(1, characters - said))
            if due:
                fact = waiting.pop()
                text, reply = (
                    rng.choice(_PHRASES["before"]) + fact.statement + rng.choice(_PHRASES["after"]),
                    rng.choice(_PHRASES["replies"]),
                )
                if rng.random() < 0.3:
                    request, reply = rng.choice(self._small_talk)
                    text += f" {request}"
                yield Turn(True, text, fact)
            else:
                text, reply = rng.choice(self._small_talk)
                yield Turn(True, text)
            yield Turn(False, reply)
            said += len(text) + len(reply) + 12


def _by_name(fact: Fact, name: str) -> str | None:
    """The question as somebody else asks it: Ada's sister instead of my sister; None where it cannot be turned."""
    if fact.subject == MYSELF:
        return (
            fact.question.replace("my ", f"{possessive(name)} ", 1).replace("My ", f"{possessive(name)} ", 1)
            if "y " in fact.question
            else None
        )
    if not fact.subject.startswith(("my ", "our ")):
        return fact.question
    theirs = f"{possessive(name)} {fact.subject.split(' ', 1)[1]}"
    for written in (fact.subject, fact.subject.capitalize(), fact.subject[0].upper() + fact.subject[1:]):
        if written in fact.question:
            return fact.question.replace(written, theirs)
    return None
