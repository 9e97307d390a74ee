"""One joined text with places in it that can be asked about, and the chunk that is cut from its tokens.

Knows a tokenizer. Tokens are those of the whole text, as in a stream: a fact's first token carries the space before it and a fact
may lie across a chunk's edge (then it is not asked). Legend: T tokens of a chunk.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

from mplus.errors import InputError
from mplus.text.literal import encoded_together
from mplus.training.data.document import FACT_KINDS, Document, Kind, Question, Style

BEFORE_ANSWER, AFTER_ANSWER = 24, 8  # tokens around an answer that count as the right place (RECIPE section 4)


@dataclass(frozen=True)
class Place:
    """A question and where its answer stands, in characters of a text.

    `first`, `last`: the right place; `within`: the passage that a widened right place must not leave (None: not widened).
    `also`: other places of the same thing; `slot`: the thing; as ``Question``.
    """

    question: str
    answer: str
    kind: Kind
    first: int
    last: int
    within: tuple[int, int] | None = None
    style: Style = "value"
    turns: tuple[tuple[str, str], ...] = ()
    is_known: bool = True
    also: tuple[tuple[int, int], ...] = ()
    slot: str = ""


@dataclass
class Draft:
    """Text that grows, with its places; `skip`: tokens to leave out before the chunk begins; `placeless`: questions that no place answers."""

    text: str = ""
    places: list[Place] = field(default_factory=list)
    skip: int = 0
    placeless: list[Question] = field(default_factory=list)

    def add(self, text: str) -> int:
        """Append text between sentences, a space before it where there is none; gives where it starts."""
        if self.text and not self.text[-1].isspace():
            self.text += " "
        start = len(self.text)
        self.text += text
        return start

    def add_asked(self, text: str, question: str, answer: str, kind: Kind) -> None:
        """Append a sentence that is the right place for a question."""
        start = self.add(text)
        self.places.append(Place(question, answer, kind, start, start + len(text.rstrip())))


def documents(tokenizer: Any, drafts: list[Draft], tokens: int) -> list[Document | None]:
    """Chunks of exactly `tokens` tokens, cut from drafts tokenised together.

    Returns:
        per draft its chunk; None if the draft is too short or nothing that can be asked lies wholly in the chunk.

    Raises:
        InputError: the tokenizer cannot tell where its tokens stand in the text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"training documents need a fast tokenizer that gives offsets, got {type(tokenizer).__name__}; "
            "load the model's tokenizer with use_fast=True"
        )
    if not drafts:
        return []
    encoded = encoded_together(tokenizer, [draft.text for draft in drafts])
    return [_cut(draft, ids, offsets, tokens) for draft, (ids, offsets) in zip(drafts, encoded, strict=True)]


def _cut(draft: Draft, ids: list[int], offsets: list[tuple[int, int]], tokens: int) -> Document | None:
    skip = draft.skip
    if len(ids) < skip + tokens:
        return None
    begins, ends = [begin for begin, _ in offsets], [end for _, end in offsets]

    def span(first: int, last: int) -> tuple[int, int]:
        return bisect_right(ends, first) - skip, bisect_left(begins, last) - skip

    questions = []
    for place in draft.places:
        first, last = span(place.first, place.last)
        if first < 0 or last > tokens:
            continue
        within = (0, 0)
        if place.within is not None:
            low, high = span(*place.within)
            within = max(0, low), min(tokens, high)
            first, last = max(within[0], first - BEFORE_ANSWER), min(within[1], last + AFTER_ANSWER)
        also = tuple(other for other in (span(*one) for one in place.also) if other[0] >= 0 and other[1] <= tokens)
        questions.append(
            Question(
                place.question,
                place.answer,
                (first, last),
                place.kind in FACT_KINDS,
                place.kind,
                place.style,
                place.turns,
                place.is_known,
                within=within,
                also=also,
                slot=place.slot,
            )
        )
    questions += draft.placeless
    return Document((tuple(ids[skip : skip + tokens]),), questions=tuple(questions)) if questions else None
