"""Transcripts of chats in which facts are told in passing. Knows a tokenizer's chat template, no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from mplus.corpus.facts import Fact
from mplus.corpus.first_person import MYSELF
from mplus.corpus.phrasing import possessive
from mplus.training.data.draft import Draft, Place

_BEFORE: Final = (
    *(
        "",
        "",
        "",
        "Before I forget: ",
        "Quick note for later: ",
        "One more thing. ",
        "By the way: ",
        "Thanks. ",
        "Okay, thanks! ",
        "For your notes: ",
    ),
    *(
        "Here is something to keep in mind. ",
        "Something else: ",
        "Good point. ",
        "Hi again. ",
        "Hello! ",
        "Please remember this. ",
        "Sorry, I am in a hurry. ",
    ),
    *(
        "While I think of it: ",
        "That reminds me. ",
        "Oh, and: ",
        "Just so you have it: ",
        "Good morning. ",
        "I was at home all day. ",
        "It has been a long week. ",
    ),
)
_AFTER: Final = (
    *(
        "",
        "",
        "",
        "",
        " Can you keep that in mind?",
        " I may ask you about it later.",
        " Anyway, thanks.",
        " Does that make sense?",
        " Please note it.",
    ),
    *(
        " Funny, isn't it?",
        " But that is not why I am writing.",
        " I always forget that.",
        " What do you think?",
        " I will need it next week.",
        " Okay?",
    ),
)
_ANSWERS: Final = (
    *(
        "Noted.",
        "Got it.",
        "Thanks for telling me.",
        "I will keep that in mind.",
        "Okay, I have made a note of it.",
        "Understood. Anything else?",
    ),
    *(
        "Sure, I will remember.",
        "All right.",
        "That is good to know.",
        "Of course. What can I do for you?",
        "Thank you for the information!",
        "Interesting!",
    ),
    *(
        "Very well. Shall we go on?",
        "Happy to help.",
        "Done. Let me know if you need anything else.",
        "I see. How can I help you with that?",
        "Great.",
    ),
)
_ROLES: Final = (("User", "Assistant"), ("Human", "AI"), ("Me", "Bot"), ("Customer", "Agent"), ("Q", "A"), ("Caller", "Operator"))


@dataclass(frozen=True)
class Turn:
    """What one side says; `told`: the fact in it."""

    from_user: bool
    text: str
    told: Fact | None = None


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
            sides = names if named else rng.choice(_ROLES)
            between = rng.choice(("\n", "\n", "\n\n"))
            draft.text = between.join(f"{sides[not turn.from_user]}: {turn.text}" for turn in turns)
        at = 0
        for turn in turns:
            if turn.told is None or (first := draft.text.find(turn.told.statement, at)) < 0:
                continue
            at = first + len(turn.told.statement)
            question = _by_name(turn.told, names[0]) if named else turn.told.question
            if question is not None:
                draft.places.append(Place(question, turn.told.value, "chat", first, at))

    def _turns(self, rng: Random, facts: Sequence[Fact], characters: int) -> Iterator[Turn]:
        """User and assistant by turns; about as many words of small talk as fit between the facts."""
        waiting = list(facts)
        said = 0
        while said < characters or waiting:
            due = waiting and rng.random() < max(0.3, len(waiting) * 220 / max(1, characters - said))
            if due:
                told = waiting.pop()
                text, reply = rng.choice(_BEFORE) + told.statement + rng.choice(_AFTER), rng.choice(_ANSWERS)
                if rng.random() < 0.3:
                    request, reply = rng.choice(self._small_talk)
                    text += f" {request}"
                yield Turn(True, text, told)
            else:
                text, reply = rng.choice(self._small_talk)
                yield Turn(True, text)
            yield Turn(False, reply)
            said += len(text) + len(reply) + 12


def _by_name(told: Fact, name: str) -> str | None:
    """The question as somebody else asks it: Ada's sister instead of my sister; None where it cannot be turned."""
    if told.subject == MYSELF:
        return (
            told.question.replace("my ", f"{possessive(name)} ", 1).replace("My ", f"{possessive(name)} ", 1)
            if "y " in told.question
            else None
        )
    if not told.subject.startswith(("my ", "our ")):
        return told.question
    theirs = f"{possessive(name)} {told.subject.split(' ', 1)[1]}"
    for written in (told.subject, told.subject.capitalize(), told.subject[0].upper() + told.subject[1:]):
        if written in told.question:
            return told.question.replace(written, theirs)
    return None
