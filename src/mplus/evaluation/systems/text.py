"""Systems that get text in the prompt: all of it, its end, or the right passage. Knows no memory and no task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import ScheduledQuestion
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.plain_model import SPARE_TOKENS, PlainModel
from mplus.evaluation.systems.protocol import LONG_ANSWER_TOKENS, PLAIN, Response
from mplus.evaluation.systems.shared_context import GROUP_QUESTIONS

_MARGIN_TOKENS: Final = 256  # text cut between two chunks may have fewer tokens as a whole


@dataclass
class TextRead:
    """The text so far, kept once for all systems that see text; also their reader."""

    ids: list[int] = field(default_factory=list)
    chunks: list[tuple[int, int]] = field(default_factory=list)
    serves: set[str] = field(default_factory=lambda: set(PLAIN))

    def read(self, ids: list[int], start: int) -> None:
        self.ids += ids
        self.chunks.append((start, start + len(ids)))


@dataclass
class FullSystem:
    """The whole text of a question, from where it begins, in the prompt; asked only where it fits the model's positions."""

    plain: PlainModel
    read: TextRead
    name: str = "full"
    batch_in_order: int = GROUP_QUESTIONS

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        question, tokens = due.question, len(self.read.ids) - due.question.begins
        if question.continuation:
            needed = len(self.plain.in_front) + tokens + len(self.plain.encode(question.text)) + len(question.continuation)
            return needed <= self.plain.positions
        return tokens <= self.plain.room(question.text, max_new_tokens)

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        given: list[Response] = [Response()] * len(due)
        for begins in dict.fromkeys(one.question.begins for one in due):
            places = [place for place, one in enumerate(due) if one.question.begins == begins]
            text = self.plain.text_of(self.read.ids[begins:])
            answers = self.plain.answer_behind(text, [due[place].question.text for place in places], max_new_tokens, clock)
            for place, one in zip(places, answers, strict=True):
                given[place] = one
        return given

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        before = [[*self.read.ids[one.question.begins :], *self.plain.encode(one.question.text)] for one in due]
        return self.plain.likelihood(before, [one.question.continuation for one in due])

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return (len(self.read.ids) - due.question.begins) * self.plain.token_bytes


@dataclass
class WindowSystem:
    """The end of all text read, as much as fits; slow, it reads the window every time.

    Args:
        budget: tokens of text at most; None: as many as the model's positions allow.
        together: messages of the whole stream, which share one context at a stop, and one long answer, of which ``window`` tells the
            beginning; None: each batch has as much of the text as fits it.
        is_long: tell the long answer.
    """

    plain: PlainModel
    read: TextRead
    budget: int | None = None
    together: Sequence[str] | None = None
    is_long: bool = False
    name: str = "window"
    batch_in_order: int = GROUP_QUESTIONS

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return True

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        messages = [one.question.text for one in due]
        if self.together is not None:
            text = self.plain.text_of(self._end(self.plain.positions + _MARGIN_TOKENS))
            told = None if self.is_long else max_new_tokens
            return self.plain.answer_behind(
                text, messages, max(max_new_tokens, LONG_ANSWER_TOKENS), clock, together=self.together, said_tokens=told
            )
        room = min(self.plain.checked_room(message, max_new_tokens) for message in messages)
        return self.plain.answer_behind(self.plain.text_of(self._end(room)), messages, max_new_tokens, clock)

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        before = []
        for one in due:
            text = self.plain.encode(one.question.text)
            room = self.plain.positions - len(self.plain.in_front) - len(text) - len(one.question.continuation)
            before.append([*self._end(room), *text])
        return self.plain.likelihood(before, [one.question.continuation for one in due])

    def size_bytes(self, due: ScheduledQuestion) -> int:
        room = self.plain.room(due.question.text, 0)
        return len(self._end(room)) * self.plain.token_bytes

    def _end(self, room: int) -> list[int]:
        tokens = room if self.budget is None else min(room, self.budget)
        return self.read.ids[-tokens:] if tokens > 0 else []


@dataclass
class PassageSystem:
    """The right passage alone, a blank line before the question; asked at the smallest distance only, since it does not change."""

    plain: PlainModel
    distance: int
    name: str = "passage"
    batch_in_order: int = GROUP_QUESTIONS

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return due.distance == self.distance and bool(due.question.passage) and not due.question.continuation

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        for one in due:
            tokens = len(self.plain.encode(one.question.passage))
            if tokens > self.plain.room(one.question.text, max_new_tokens) + SPARE_TOKENS:
                raise InputError(
                    f"a passage of {tokens} tokens with its question does not fit, the model has {self.plain.positions} positions; shorten it"
                )
        return self.plain.answer_each(
            [one.question.passage for one in due], [one.question.text for one in due], max_new_tokens, clock
        )

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        raise AssertionError("a passage system is never asked for a likelihood")

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return len(self.plain.encode(due.question.passage)) * self.plain.token_bytes
