"""Where memory tokens stand in the texts they came from. Knows a memory's ledger, nothing of reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from mplus.memory.ledger import Chunk
from mplus.memory.memory import Memory


@dataclass(frozen=True)
class TokenSpan:
    """Text tokens that one memory token stands for.

    Attributes:
        source: its name, "" for text without one; None: it is not known, and the span is the token's position.
        start, stop: in the source.
        chunk: that it was written with.
        first, last: in the chunk, as `start` and `stop`.
    """

    source: str | None
    start: int
    stop: int
    chunk: Chunk | None = None
    first: int = 0
    last: int = 0


class Spans:
    """The spans of a memory's tokens, as the memory is now.

    With the input tap a memory token stands for the text from behind the one before it up to its own. With the output tap each stands
    for its whole chunk; where several sources share that, for the one with the most tokens of it.
    """

    def __init__(self, memory: Memory) -> None:
        self.ledger, self.sizes = memory.ledger, memory.geometry.sizes
        self.whole_chunks = memory.geometry.write.tap == "output"
        shares_chunks = memory.geometry.write.context == "memory"
        self._starts = _part_starts(memory.ledger.chunks) if shares_chunks else None
        self._kept = cache(self.sizes.kept_positions)
        self._newest: Chunk | None = None

    def of(self, position: int) -> TokenSpan:
        """The span of the memory token at `position`."""
        chunk = self._newest
        if chunk is None or not chunk.first <= position < chunk.stop:  # tokens are asked for in their order
            chunk = self._newest = self.ledger.chunk_of(position)
        if chunk is None:
            return TokenSpan(None, position, position + 1)
        first, last = self._in_chunk(chunk, position - chunk.first)
        return self._of_part(chunk, first, last)

    def _in_chunk(self, chunk: Chunk, row: int) -> tuple[int, int]:
        """Text tokens of a chunk that its row stands for."""
        tokens = sum(count for _, count in chunk.sources)
        if self.whole_chunks:
            return 0, tokens
        kept = self._kept(tokens)
        return (kept[row - 1] + 1 if row else 0), kept[row] + 1

    def _of_part(self, chunk: Chunk, first: int, last: int) -> TokenSpan:
        """The part of a span of a chunk that is of one source: of its last token's, of whole chunks the longest."""
        parts, begin = [], 0
        starts = [chunk.start] if self._starts is None else self._starts[chunk.first]
        for (name, count), start in zip(chunk.sources, starts, strict=True):
            parts.append((name or "", begin, begin + count, start))
            begin += count
        if self.whole_chunks:
            name, begin, end, start = max(parts, key=lambda part: part[2] - part[1])
        else:
            name, begin, end, start = next(part for part in parts if part[1] < last <= part[2])
        first, last = max(first, begin), min(last, end)
        return TokenSpan(name, start + first - begin, start + last - begin, chunk, first, last)


def ids_of(spans: Iterable[TokenSpan]) -> list[int] | None:
    """Token ids of spans that follow each other; None where the memory did not keep them."""
    pieces: dict[int, tuple[Chunk, int, int]] = {}
    for span in spans:
        if span.chunk is None or span.chunk.ids is None:
            return None
        chunk, first, last = pieces.get(span.chunk.first, (span.chunk, span.first, span.last))
        pieces[chunk.first] = chunk, min(first, span.first), max(last, span.last)
    return [int(token) for chunk, first, last in pieces.values() for token in (chunk.ids or ())[first:last]]


def _part_starts(chunks: Iterable[Chunk]) -> dict[int, list[int]]:
    """By a chunk's first position, for each of its parts the tokens of that source before it."""
    written: dict[str, int] = {}
    starts: dict[int, list[int]] = {}
    for chunk in chunks:
        own = starts[chunk.first] = []
        for name, tokens in chunk.sources:
            own.append(written.get(name or "", 0))
            written[name or ""] = own[-1] + tokens
    return starts
