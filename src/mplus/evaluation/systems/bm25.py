"""The chunks that BM25 finds, in the prompt of a plain model. BM25 itself is the library bm25s (extra ``eval``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import regex

from mplus.evaluation.schedule.stream import ScheduledQuestion
from mplus.evaluation.systems.clock import TokenClock
from mplus.evaluation.systems.plain_model import PlainModel
from mplus.evaluation.systems.protocol import Response
from mplus.evaluation.systems.text import TextRead
from mplus.runtime.extras import require
from mplus.text.writing_systems import UNSPACED

_WORD: Final = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}_]--[{UNSPACED}]]+", regex.VERSION1)
"""A word; where a script has no spaces, a sign."""


@dataclass
class Bm25System:
    """The same chunks as a memory reads, found by the question's words; the best ones up to a budget, in reading order.

    Lucene's form of BM25 (k1 1.5, b 0.75) over lower-cased words, no stop words and no stemming, as in rank_bm25 and most papers.

    Args:
        budget: tokens of text at most.
    """

    plain: PlainModel
    read: TextRead
    budget: int
    name: str = "bm25"
    batch_in_order: int = 8
    _indexed: int = 0
    _texts: list[str] = field(default_factory=list)
    _index: Any = None

    def wants(self, due: ScheduledQuestion, max_new_tokens: int) -> bool:
        return True

    def answer(self, due: Sequence[ScheduledQuestion], max_new_tokens: int, *, clock: TokenClock | None = None) -> list[Response]:
        messages = [one.question.text for one in due]
        queries = [one.question.query or one.question.text for one in due]
        rooms = [self.plain.checked_room(message, max_new_tokens) for message in messages]
        texts = [self.plain.text_of(self.found(query, room)) for query, room in zip(queries, rooms, strict=True)]
        return self.plain.answer_each(texts, messages, max_new_tokens, clock)

    def likelihood(self, due: Sequence[ScheduledQuestion]) -> list[Response]:
        before = []
        for one in due:
            text = self.plain.encode(one.question.text)
            room = self.plain.positions - len(text) - len(one.question.continuation)
            before.append([*self.found(one.question.query or one.question.text, room), *text])
        return self.plain.likelihood(before, [one.question.continuation for one in due])

    def size_bytes(self, due: ScheduledQuestion) -> int:
        return 4 * len(self.read.ids)  # the text itself; its index holds about as much again

    def found(self, query: str, room: int) -> list[int]:
        """Token ids of the best chunks, in reading order; the last one is cut to what is left of the budget."""
        left, chosen = max(0, min(self.budget, room)), list[tuple[int, int]]()
        for place in self._ranked(query):
            start, end = self.read.chunks[place]
            end = min(end, start + left)
            chosen.append((start, end))
            left -= end - start
            if left <= 0:
                break
        return [token for start, end in sorted(chosen) for token in self.read.ids[start:end]]

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
