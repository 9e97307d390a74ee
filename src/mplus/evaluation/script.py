"""What a model reads and when it is asked: a text in chunks, with questions between them. Knows no model and no tokenizer.

Positions are text tokens from the beginning of the stream. A question's ``end`` is where what it asks about has ended; asked
after t tokens, its distance is t - end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mplus.corpus.text import sentences

Encode = Callable[[str], list[int]]
Span = tuple[int, int]
"""First position and one past the last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One question about something that stands in the stream.

    Attributes:
        id: of the sample, the same at every distance.
        cluster: what its answers are not independent of, in all streams of a run (a passage, a document); its own id if nothing.
        text: the whole message, as it is asked.
        query: what to search for, without the words that every message of the task has; empty: ``text``.
        answers: any of them is right (some metrics want all).
        span: of the passage or statement asked about; what was read behind it is its distance. Empty where nobody knows what part
            of the text is needed: what is read of it is not traced then.
        answer_span: the place of the answer, or of the statement.
        passage: text asked about, for systems that get it in the prompt; empty: there is none.
        begins: where the question's own text begins; what stands before is of other samples.
        row, column: of the result's table (a subtask, a length) and of its map (a depth); empty: the distance.
        options: of a multiple choice, the answer among them.
        unanswerable: right is to say that it is not known.
        continuation: token ids whose likelihood is measured behind ``text`` instead of asking.
    """

    id: str
    cluster: str
    text: str
    answers: tuple[str, ...]
    span: Span
    answer_span: Span
    query: str = ""
    passage: str = ""
    begins: int = 0
    row: str = ""
    column: str = ""
    options: tuple[str, ...] = ()
    unanswerable: bool = False
    continuation: tuple[int, ...] = ()

    @property
    def end(self) -> int:
        """Position behind what it asks about."""
        return self.span[1]


@dataclass(frozen=True)
class Due:
    """A question at one of its distances (the nominal one; the true one is measured when it is asked)."""

    question: Question
    distance: int


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A sentence in tokens; a paragraph may end with it."""

    ids: list[int]
    ends_paragraph: bool = False


@dataclass
class Script:
    """Chunks to write, and what is asked after how many of their tokens."""

    chunks: list[list[int]]
    due: dict[int, list[Due]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # about how it was made, for the result

    @property
    def tokens(self) -> int:
        """Length of the text."""
        return sum(map(len, self.chunks))

    @property
    def questions(self) -> int:
        """How many times something is asked."""
        return sum(map(len, self.due.values()))


def units_of(text: str, encode: Encode, *, starts_paragraph: bool = True) -> list[tuple[str, Unit]]:
    """The sentences of a text with their tokens; white space between two belongs to the second, as in most vocabularies.

    Returns:
        pairs of text and unit; joined, the texts are the text, behind a blank line if it starts a paragraph.
    """
    carried = "\n\n" if starts_paragraph else ""
    made: list[tuple[str, Unit]] = []
    for sentence in sentences(text.strip()):
        bare = sentence.rstrip()
        if not bare:
            carried += sentence
            continue
        whole = carried + bare
        carried = sentence[len(bare) :]
        made.append((whole, Unit(ids=encode(whole), ends_paragraph="\n" in carried)))
    if made:
        text_of_last, last = made[-1]
        made[-1] = (text_of_last, Unit(ids=last.ids, ends_paragraph=True))
    return made


def cut_chunks(units: Sequence[Unit], size: int, smallest: int, stops: Iterable[int]) -> list[list[int]]:
    """Chunks of at most ``size`` tokens, each ending like those of ``Memory.write``: at the last paragraph end in the chunk's
    second half, else at the last sentence end, else anywhere; and always at a stop.

    Args:
        smallest: what is left before a stop is not made shorter than this if it can be helped.
        stops: positions where a chunk must end, within the text.
    """
    ids = [token for unit in units for token in unit.ids]
    ends, paragraphs = [], set()
    position = 0
    for unit in units:
        position += len(unit.ids)
        ends.append(position)
        if unit.ends_paragraph:
            paragraphs.add(position)
    chunks: list[list[int]] = []
    start = 0
    for stop in [*sorted(set(stops) - {0, len(ids)}), len(ids)]:
        while start < stop:
            end = stop if stop - start <= size else _chunk_end(ends, paragraphs, start, size, stop - smallest)
            chunks.append(ids[start:end])
            start = end
    return chunks


def _chunk_end(ends: list[int], paragraphs: set[int], start: int, size: int, latest: int) -> int:
    latest = max(start + 1, min(start + size, latest))
    low = bisect_left(ends, start + max(1, size // 2))
    fitting = ends[low : bisect_left(ends, latest + 1)]
    return next((end for end in reversed(fitting) if end in paragraphs), fitting[-1] if fitting else latest)
