"""The text of one source on its way into a memory: chunks to encode, each behind the newest tokens of that source. Changes no memory.

Legend: K newest tokens that a chunk sees.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from mplus.memory.ledger import content_key
from mplus.memory.log import Extent
from mplus.memory.rows import ChunkToEncode, EncodedChunk

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


@dataclass(frozen=True)
class ReadyChunk:
    """An encoded chunk.

    Attributes:
        key: its content address.
        extent: where its rows lie already; None: they are new.
    """

    source: str | None
    ids: list[int]
    at: float
    key: str
    written: EncodedChunk
    extent: Extent | None


@dataclass
class SourceWriting:
    """Chunks of one text, encoded one after the other: by a pass, or taken from a memory that has them.

    Args:
        pieces: token ids of the chunks.
        share: whether rows of other memories of the process are taken.
    """

    memory: Memory
    pieces: list[list[int]]
    source: str | None
    at: float
    share: bool = True
    ready: deque[ReadyChunk] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._next = 0
        self._key = self.memory.ledger.key_of(self.source)
        self._tail: EncodedChunk | None = None

    @property
    def is_done(self) -> bool:
        """Whether every chunk was encoded and taken."""
        return self._next == len(self.pieces) and not self.ready

    def wanted(self) -> ChunkToEncode | None:
        """The next chunk, if it needs a pass; None when there is a chunk in ``ready``, or none is left."""
        if self._next == len(self.pieces):
            return None
        ids = self.pieces[self._next]
        extent = self._known(content_key(self._key, ids)) if self.share and not tells_hidden(self.memory) else None
        if extent is None:
            return ChunkToEncode(ids, self._seen())
        self._advance(EncodedChunk(self.memory.rows_of([extent]), len(ids), ids=tuple(ids)), extent)
        return None

    def give(self, written: EncodedChunk) -> None:
        """Take what a pass made of the chunk that ``wanted`` gave."""
        self._advance(written, None)

    def take_ready(self) -> list[ReadyChunk]:
        """Chunks that can be taken in, in order."""
        out = list(self.ready)
        self.ready.clear()
        return out

    def _known(self, key: str) -> Extent | None:
        return self.memory.encoder.shared_rows(self.memory).find(key)

    def _seen(self) -> EncodedChunk:
        if self._tail is None:
            self._tail = newest_of(self.memory, self.source)
        return self._tail

    def _advance(self, written: EncodedChunk, extent: Extent | None) -> None:
        ids = self.pieces[self._next]
        key = content_key(self._key, ids)
        self._tail = followed(self._seen(), written, self.memory, exact=extent is not None)
        self.ready.append(ReadyChunk(self.source, ids, self.at, key, written, extent))
        self._key, self._next = key, self._next + 1


def tells_hidden(memory: Memory) -> bool:
    """Whether later chunks of a source need hidden states that rows do not hold."""
    return memory.format == "kv" and memory.geometry.read.memory_projection == "read"


def newest_of(memory: Memory, source: str | None) -> EncodedChunk:
    """The newest K tokens of a source, as its next chunk sees them; those of a neutral text stand before them where they are fewer."""
    opening, held = memory.encoder.opening(memory), memory.state.tails.get(source)
    if tells_hidden(memory):
        return EncodedChunk(opening.rows, 0, hidden=opening.hidden if held is None else held)
    return followed(opening, EncodedChunk(memory.newest_rows(source), 0), memory, exact=True)


def followed(tail: EncodedChunk, written: EncodedChunk, memory: Memory, *, exact: bool = False) -> EncodedChunk:
    """The newest K tokens after a chunk.

    Args:
        exact: whether its rows are rounded as the memory keeps them.
    """
    count = memory.geometry.sizes.new_tokens
    fresh = written.rows if exact else memory.codec.rounded(written.rows)
    rows = {name: torch.cat([tail.rows[name], fresh[name]], 1)[:, -count:] for name in memory.layout.fields}
    if memory.format == "hidden":
        return EncodedChunk(rows, 0, hidden=rows["hidden"])
    hidden = None if written.hidden is None else written.hidden
    if hidden is not None and tail.hidden is not None:
        hidden = torch.cat([tail.hidden, hidden], 1)
    return EncodedChunk(rows, 0, hidden=None if hidden is None else hidden[:, -count:])
