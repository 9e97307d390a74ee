"""Systems that get text in the prompt: all of it, its end, what BM25 finds, or the right passage. Knows no memory and no task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import regex

from mplus.errors import InputError
from mplus.evaluation.schedule.stream import Question, ScheduledQuestion, SourceStart, Span
from mplus.evaluation.scoring.retrieval_recall import RetrievalRecall
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.plain_model import SPARE_TOKENS, PlainModel
from mplus.evaluation.systems.protocol import LONG_ANSWER_TOKENS, PLAIN, Response
from mplus.evaluation.systems.shared_context import GROUP_QUESTIONS
from mplus.runtime.extras import require
from mplus.text.writing_systems import UNSPACED

_MARGIN_TOKENS: Final = 256  # text cut between two chunks may have fewer tokens as a whole
_WORD: Final = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}_]--[{UNSPACED}]]+", regex.VERSION1)
"""A word; where a script has no spaces, a sign."""


@dataclass
class TextRead:
    """The text so far, kept once for all systems that see text; also their reader."""

    ids: list[int] = field(default_factory=list)
    chunks: list[tuple[int, int]] = field(default_factory=list)
    serves: set[str] = field(default_factory=lambda: set(PLAIN))
    times_forgotten: int = 0
    _sources: list[str] = field(default_factory=list)  # of each chunk

    def read(self, ids: list[int], start: int, source: SourceStart | None = None) -> None:
        self.chunks.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids
        self._sources.append("" if source is None else source.name)

    def forget(self, sources: Sequence[str]) -> None:
        """Take the text of sources out; positions of the rest move up, so ``Question.begins`` must be 0."""
        kept = [(name, self.ids[slice(*chunk)]) for name, chunk in zip(self._sources, self.chunks, strict=True)]
        self.ids, self.chunks, self._sources = [], [], []
        for name, ids in kept:
            if name not in sources:
                self.read(ids, len(self.ids), SourceStart(name))
        self.times_forgotten += 1


@dataclass
class TextSystem(ABC):
    """The base of systems that get some of the text read in the prompt of a plain model."""

    plain: PlainModel
    read: TextRead
    name: str = field(default="text", kw_only=True)
    batch_in_order: int = field(default=GROUP_QUESTIONS, kw_only=True)

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return True

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        before = []
        for question in (one.question for one in due):
            text = self.plain.encode(question.text)
            room = self.plain.positions - len(text) - len(question.continuation)
            before.append([*self.text_for(question, room), *text])
        return self.plain.likelihood(before, [one.question.continuation for one in due])

    def reading(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        return self.answer(due, 1)

    @abstractmethod
    def answer(
        self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None
    ) -> list[Response]: ...

    @abstractmethod
    def text_for(self, question: Question, room: int) -> list[int]:
        """Token ids of the text that stands before a question; the prompt has room for so many."""


@dataclass
class FullSystem(TextSystem):
    """The whole text of a question, from where it begins, in the prompt; asked only where it fits the model's positions."""

    name: str = field(default="full", kw_only=True)

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        question, tokens = due.question, len(self.read.ids) - due.question.begins
        if question.continuation:
            needed = len(self.plain.in_front) + tokens + len(self.plain.encode(question.text)) + len(question.continuation)
            return needed <= self.plain.positions
        return tokens <= self.plain.room(question.message, max_new_tokens)

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        given: list[Response] = [Response()] * len(due)
        for begins in dict.fromkeys(one.question.begins for one in due):
            places = [place for place, one in enumerate(due) if one.question.begins == begins]
            text = self.plain.text_of(self.read.ids[begins:])
            answers = self.plain.answer_behind(text, [due[place].question.message for place in places], max_new_tokens, clock)
            for place, one in zip(places, answers, strict=True):
                given[place] = one
        return given

    def text_for(self, question: Question, room: int) -> list[int]:
        return self.read.ids[question.begins :]

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return (len(self.read.ids) - due.question.begins) * self.plain.token_bytes


@dataclass
class WindowSystem(TextSystem):
    """The end of all text read, as much as fits; slow, it reads the window every time.

    Args:
        budget: tokens of text at most; None: as many as the model's positions allow.
        together: messages of the whole stream, which share one context at a stop, and one long answer, of which ``window`` tells the
            beginning; None: each batch has as much of the text as fits it.
        is_long: tell the long answer.
    """

    budget: int | None = None
    together: Sequence[str] | None = None
    is_long: bool = False
    name: str = field(default="window", kw_only=True)

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        messages = [one.question.message for one in due]
        if self.together is not None:
            text = self.plain.text_of(self._end(self.plain.positions + _MARGIN_TOKENS))
            told = None if self.is_long else max_new_tokens
            return self.plain.answer_behind(
                text, messages, max(max_new_tokens, LONG_ANSWER_TOKENS), clock, together=self.together, said_tokens=told
            )
        room = min(self.plain.checked_room(message, max_new_tokens) for message in messages)
        return self.plain.answer_behind(self.plain.text_of(self._end(room)), messages, max_new_tokens, clock)

    def text_for(self, question: Question, room: int) -> list[int]:
        return self._end(room - len(self.plain.in_front))

    def size_bytes(self, due: ScheduledQuestion) -> int:
        room = self.plain.room(due.question.message, 0)
        return len(self._end(room)) * self.plain.token_bytes

    def _end(self, room: int) -> list[int]:
        tokens = room if self.budget is None else min(room, self.budget)
        return self.read.ids[-tokens:] if tokens > 0 else []


@dataclass
class Bm25System(TextSystem):
    """The same chunks as a memory reads, found by the question's words; the best ones up to a budget, in reading order.

    Lucene's form of BM25 (k1 1.5, b 0.75) over lower-cased words, no stop words and no stemming, as in rank_bm25 and most papers.

    Args:
        budget: tokens of text at most.
    """

    budget: int
    name: str = field(default="bm25", kw_only=True)
    batch_in_order: int = field(default=8, kw_only=True)
    _indexed: int = 0
    _times_forgotten: int = 0
    _texts: list[str] = field(default_factory=list)
    _index: Any = None

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        messages = [one.question.message for one in due]
        chosen = [self._chosen(one, max_new_tokens) for one in due]
        texts = [self.plain.text_of(self._tokens(spans)) for spans in chosen]
        given = self.plain.answer_each(texts, messages, max_new_tokens, clock)
        return [
            replace(answer, read=self._read(one.question, spans)) for answer, one, spans in zip(given, due, chosen, strict=True)
        ]

    def reading(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        return [Response(read=self._read(one.question, self._chosen(one, 1))) for one in due]

    def text_for(self, question: Question, room: int) -> list[int]:
        return self.found(question.query or question.text, room)

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return 4 * len(self.read.ids)  # the text itself; its index holds about as much again

    def found(self, query: str, room: int) -> list[int]:
        """Token ids of the best chunks, in reading order; the last one is cut to what is left of the budget."""
        return self._tokens(self.places(query, room))

    def places(self, query: str, room: int) -> list[Span]:
        """The same chunks as positions of the text."""
        left, chosen = max(0, min(self.budget, room)), list[Span]()
        for place in self._ranked(query):
            start, end = self.read.chunks[place]
            end = min(end, start + left)
            chosen.append((start, end))
            left -= end - start
            if left <= 0:
                break
        return sorted(chosen)

    def _tokens(self, spans: Sequence[Span]) -> list[int]:
        return [token for start, end in spans for token in self.read.ids[start:end]]

    def _chosen(self, due: ScheduledQuestion, max_new_tokens: int) -> list[Span]:
        question = due.question
        room = self.plain.checked_room(question.message, max_new_tokens)
        return self.places(question.query or question.message, room)

    def _read(self, question: Question, spans: Sequence[Span]) -> RetrievalRecall | None:
        """Give the share of the needed text that stands in the prompt; None where nobody knows, or positions have moved."""
        if question.span[0] == question.span[1] or self.read.times_forgotten:
            return None
        held = {place for span in spans for place in range(*span)}
        right = len(held.intersection(range(*question.span)))
        return RetrievalRecall(
            right_in_ltm=[question.span[1] - question.span[0]],
            right_read=[right],
            chance=[len(held) / max(1, len(self.read.ids))],
            answer_read=[held.issuperset(range(*question.answer_span))],
        )

    def _ranked(self, query: str) -> list[int]:
        """Chunks by falling score; of equal ones the newest first."""
        self._take_in()
        words = [word for word in _words(query) if word in self._index.vocab_dict] if self._index is not None else []
        if not words:
            return list(range(len(self.read.chunks)))[::-1]
        scores = self._index.get_scores(words)
        return sorted(range(len(scores)), key=lambda place: (-float(scores[place]), -place))

    def _take_in(self) -> None:
        """Index anew when there is more text; milliseconds for a thousand chunks."""
        if self._times_forgotten != self.read.times_forgotten:
            self._times_forgotten, self._indexed, self._index = self.read.times_forgotten, 0, None
            self._texts.clear()
        if self._indexed == len(self.read.chunks):
            return
        for start, end in self.read.chunks[self._indexed :]:
            self._texts.append(self.plain.text_of(self.read.ids[start:end]))
        self._indexed = len(self.read.chunks)
        library = require("bm25s", "system 'bm25'")
        self._index = library.BM25(method="lucene", k1=1.5, b=0.75)
        self._index.index([_words(text) or [""] for text in self._texts], show_progress=False)


def _words(text: str) -> list[str]:
    found: list[str] = _WORD.findall(text.lower())
    return found


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
            if tokens > self.plain.room(one.question.message, max_new_tokens) + SPARE_TOKENS:
                raise InputError(
                    f"a passage of {tokens} tokens with its question does not fit, the model has {self.plain.positions} positions; shorten it"
                )
        return self.plain.answer_each(
            [one.question.passage for one in due], [one.question.message for one in due], max_new_tokens, clock
        )

    def reading(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        return self.answer(due, 1)

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        raise AssertionError("a passage system is never asked for a likelihood")

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return len(self.plain.encode(due.question.passage)) * self.plain.token_bytes
