"""Evaluation streams: a text in chunks, with questions between them. Knows no model and no tokenizer.

Positions are text tokens from the beginning of the stream. A question's ``end`` is where what it asks about has ended; asked
after t tokens, its distance is t - end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mplus.text.sentences import sentences
from mplus.text.writing_systems import has_unspaced, words

Encode = Callable[[str], list[int]]
Span = tuple[int, int]
"""First position and one past the last."""

_LONG_UNIT: Final = 32  # tokens
_EVERY: Final = 4  # signs


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
        before: role and words of each earlier turn of the conversation, in which ``text`` is the last.
        forbidden: values that must not be said: any other answer is right, a refusal too.
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
    before: tuple[tuple[str, str], ...] = ()
    forbidden: tuple[str, ...] = ()

    @property
    def chat(self) -> list[dict[str, str]]:
        """The conversation that the question ends."""
        return [{"role": role, "content": words} for role, words in (*self.before, ("user", self.text))]

    @property
    def message(self) -> str:
        """The conversation in one message, for systems that are asked without turns."""
        return "\n\n".join([*(f"{role.capitalize()}: {words}" for role, words in self.before), self.text])

    @property
    def end(self) -> int:
        """Position behind what it asks about."""
        return self.span[1]


@dataclass(frozen=True)
class ScheduledQuestion:
    """A question at one of its distances (the nominal one; the true one is measured when it is asked)."""

    question: Question
    distance: int


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A sentence in tokens; a paragraph may end with it.

    Attributes:
        places: numbers of its tokens after which a chunk may end if it must end within; known for scripts without spaces only, whose
            sentences are long in tokens and whose tokens may be parts of a character.
    """

    ids: list[int]
    ends_paragraph: bool = False
    places: tuple[int, ...] = ()


@dataclass(frozen=True)
class SourceStart:
    """A source that begins somewhere in a stream.

    Attributes:
        at: seconds since 1970 when it was said; None: not known.
    """

    name: str
    at: float | None = None


@dataclass
class EvalStream:
    """Chunks to write, and what is asked after how many of their tokens.

    Attributes:
        sources: by the position where each begins; empty: the stream is one source.
        forgets: sources that are forgotten, by the position where that happens, before anything is asked there.
    """

    chunks: list[list[int]]
    due: dict[int, list[ScheduledQuestion]] = field(default_factory=dict)
    sources: dict[int, SourceStart] = field(default_factory=dict)
    forgets: dict[int, tuple[str, ...]] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)  # how it was made, for the result
    in_order: bool = False  # questions of one stop are asked in their order; else those of like length together

    @property
    def tokens(self) -> int:
        """Length of the text."""
        return sum(map(len, self.chunks))

    def source_at(self, position: int) -> SourceStart | None:
        """The source that a position lies in."""
        begun = [start for start in self.sources if start <= position]
        return self.sources[max(begun)] if begun else None

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
        ids = encode(whole)
        made.append((whole, Unit(ids=ids, ends_paragraph="\n" in carried, places=_places(whole, ids, encode))))
    if made:
        text_of_last, last = made[-1]
        made[-1] = (text_of_last, replace(last, ends_paragraph=True))
    return made


def _places(text: str, ids: list[int], encode: Encode) -> tuple[int, ...]:
    """Where a long sentence of a script without spaces may be cut: between signs, about every fourth, where tokens end too."""
    if len(ids) < _LONG_UNIT or text.isascii() or len(signs := words(text)) < len(ids) / 8 or not has_unspaced(text):
        return ()
    found, at = [], 0
    for number, sign in enumerate(signs, 1):
        at = text.index(sign, at) + len(sign)
        if number % _EVERY == 0 and (before := encode(text[:at])) == ids[: len(before)]:
            found.append(len(before))
    return tuple(found)


def cut_chunks(units: Sequence[Unit], size: int, smallest: int, stops: Iterable[int]) -> list[list[int]]:
    """Chunks of at most ``size`` tokens, each ending like those of ``Memory.write``: at the last paragraph end in the chunk's
    second half, else at the last sentence end, else anywhere; and always at a stop.

    Args:
        smallest: what is left before a stop is not made shorter than this if it can be helped.
        stops: positions where a chunk must end, within the text.
    """
    ids = [token for unit in units for token in unit.ids]
    ends, paragraphs, places = [], set(), list[int]()
    position = 0
    for unit in units:
        places += [position + place for place in unit.places]
        position += len(unit.ids)
        ends.append(position)
        if unit.ends_paragraph:
            paragraphs.add(position)
    chunks: list[list[int]] = []
    start = 0
    for stop in [*sorted(set(stops) - {0, len(ids)}), len(ids)]:
        while start < stop:
            end = stop if stop - start <= size else _chunk_end(ends, paragraphs, places, start, size, stop - smallest)
            chunks.append(ids[start:end])
            start = end
    return chunks


def _chunk_end(ends: list[int], paragraphs: set[int], places: list[int], start: int, size: int, latest: int) -> int:
    latest = max(start + 1, min(start + size, latest))
    fitting, within = (
        found[bisect_left(found, start + max(1, size // 2)) : bisect_left(found, latest + 1)] for found in (ends, places)
    )
    last = (fitting or within or [latest])[-1]
    return next((end for end in reversed(fitting) if end in paragraphs), last)
