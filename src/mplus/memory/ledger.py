"""What was written, from which source and when, and which memory tokens it became. Knows no rows.

A memory token is known here by its birth: its number in the order of writing.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Chunk(NamedTuple):
    """One write.

    Attributes:
        first: birth of its first memory token; the others follow one by one.
        rows: memory tokens it became.
        sources: (source name or None, text tokens taken from it), in text order.
        ids: its token ids; None where a memory of before did not keep them.
        at: seconds since 1970 when it was written; None: not known.
        key: content address: the same for the same text behind the same text of its source; "" where it is not known.
        start: tokens of its first source that were written before it.
        previous: number of the chunk before it that begins with the same source; -1: none.
        by_hand: whether the caller chose which tokens left for it, so that its placement cannot be replayed.
    """

    first: int
    rows: int
    sources: tuple[tuple[str | None, int], ...]
    ids: Sequence[int] | None = None
    at: float | None = None
    key: str = ""
    start: int = 0
    previous: int = -1
    by_hand: bool = False

    @property
    def stop(self) -> int:
        """Birth behind its last memory token."""
        return self.first + self.rows

    @property
    def source(self) -> str | None:
        """The source of its first token."""
        return self.sources[0][0] if self.sources else None

    def is_of(self, names: set[str | None]) -> bool:
        """Whether some of it came from one of these sources."""
        return any(name in names for name, _ in self.sources)


@dataclass(frozen=True)
class SourceInfo:
    """One source of a memory.

    Attributes:
        name: "" for text without a name.
        tokens, chunks: text tokens and writes.
        first_at, last_at: seconds since 1970 of its first and last write, where known.
        short_term, long_term, evicted: memory tokens in each (where layers differ, their mean).
        digest: SHA-256 of its token ids; "" where they were not kept.
    """

    name: str
    tokens: int
    chunks: int
    first_at: float | None
    last_at: float | None
    short_term: int
    long_term: int
    evicted: int
    digest: str


class Ledger:
    """All chunks in the order in which they were written; never changed, ``with_chunk`` gives the next one."""

    def __init__(self, chunks: Iterable[Chunk] = ()) -> None:
        self._chunks: list[Chunk] = []
        self._count = 0
        self._newest: dict[str | None, tuple[int, int]] = {}
        """Number of the newest chunk that begins with a source (-1: none does), and the tokens of the source in all."""
        for chunk in chunks:
            self._add(chunk)

    @property
    def chunks(self) -> list[Chunk]:
        """All of them, oldest first."""
        return self._chunks[: self._count]

    def __len__(self) -> int:
        return self._count

    def with_chunk(self, chunk: Chunk) -> Ledger:
        """This ledger with one more write; what it says of its place among its source's chunks is filled in."""
        twin = Ledger.__new__(Ledger)
        twin._chunks = self._chunks if len(self._chunks) == self._count else self._chunks[: self._count]  # a fork went on before
        twin._count, twin._newest = self._count, dict(self._newest)
        twin._add(chunk)
        return twin

    def _add(self, chunk: Chunk) -> None:
        previous, start = self._newest.get(chunk.source, (-1, 0))
        self._chunks.append(chunk._replace(previous=previous, start=start))
        for name, count in chunk.sources:
            newest, tokens = self._newest.get(name, (-1, 0))
            self._newest[name] = (self._count if name == chunk.source else newest, tokens + count)
        self._count += 1

    def fork(self) -> Ledger:
        """The same ledger, to go on with beside this one in another thread."""
        twin = Ledger.__new__(Ledger)
        twin._chunks, twin._count, twin._newest = self.chunks, self._count, dict(self._newest)
        return twin

    # -- looking up ------------------------------------------------------------------------------------------------

    def chunk_of(self, birth: int) -> Chunk | None:
        """The chunk a memory token came from; None for tokens that were there before the first write, or whose text is forgotten."""
        at = bisect_right(self._chunks, birth, hi=self._count, key=lambda chunk: chunk.first) - 1
        if at < 0 or birth >= self._chunks[at].stop:
            return None
        return self._chunks[at]

    def chunks_between(self, begin: int, end: int) -> list[Chunk]:
        """Chunks whose memory tokens all lie between two births."""
        at = bisect_left(self._chunks, begin, hi=self._count, key=lambda chunk: chunk.first)
        out = []
        while at < self._count and self._chunks[at].stop <= end:
            out.append(self._chunks[at])
            at += 1
        return out

    def newest_of(self, source: str | None) -> Iterator[Chunk]:
        """Chunks that begin with a source, the newest first."""
        number, _ = self._newest.get(source, (-1, 0))
        while number >= 0:
            chunk = self._chunks[number]
            yield chunk
            number = chunk.previous

    def key_of(self, source: str | None) -> str:
        """Content address of the newest chunk of a source."""
        return next((chunk.key for chunk in self.newest_of(source)), "")

    @property
    def sources(self) -> list[str | None]:
        """All sources in the order of their first write."""
        return list(dict.fromkeys(name for chunk in self.chunks for name, _ in chunk.sources))

    def ids_by_source(self) -> dict[str | None, list[Sequence[int]] | None]:
        """Token ids per source, in pieces in the order of writing; None where some of them were not kept."""
        out: dict[str | None, list[Sequence[int]] | None] = {}
        for chunk in self.chunks:
            at = 0
            for name, count in chunk.sources:
                held = out.setdefault(name, [])
                if chunk.ids is None:
                    out[name] = None
                elif held is not None:
                    held.append(chunk.ids if len(chunk.ids) == count else chunk.ids[at : at + count])
                at += count
        return out

    def tokens_by_source(self) -> dict[str, int]:
        """Text tokens written per source; text without a source counts under ''."""
        totals: dict[str, int] = {}
        for chunk in self.chunks:
            for source, tokens in chunk.sources:
                totals[source or ""] = totals.get(source or "", 0) + tokens
        return totals

    @property
    def newest_source(self) -> list[str | None]:
        """The name, or None, of the source that was written last; empty where nothing was written."""
        return [name for name, _ in self._chunks[self._count - 1].sources[-1:]] if self._count else []

    @property
    def text_tokens(self) -> int:
        """Text tokens of all chunks."""
        return sum(count for chunk in self.chunks for _, count in chunk.sources)


def packed(ids: Sequence[int] | NDArray[Any]) -> array[int]:
    """Token ids in two bytes each where they fit, else in four."""
    import numpy  # here, because a list of sources is shown without it

    wide = numpy.asarray(ids, dtype=numpy.int64)
    code = "H" if not wide.size or int(wide.max()) < 1 << 16 else "I"
    return array(code, wide.astype(code).tobytes())


def content_key(previous: str, ids: Sequence[int]) -> str:
    """Content address of a chunk behind the chunk with the address `previous` ("": the first of its source)."""
    import numpy

    return hashlib.sha256(previous.encode() + numpy.asarray(ids, dtype="<i8").tobytes()).hexdigest()[:32]


def digest_of(pieces: Iterable[Sequence[int]]) -> str:
    """SHA-256 of token ids that come in pieces, as ``SourceInfo.digest`` has it."""
    import numpy

    digest = hashlib.sha256()
    for ids in pieces:
        digest.update(numpy.asarray(ids, dtype="<i4").tobytes())
    return digest.hexdigest()
