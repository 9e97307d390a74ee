"""Everything that a memory holds, as one frozen value. Knows no model, no text and no file.

A change makes a new value, which costs little because rows that are held are shared and never overwritten; then the memory takes it in
one assignment. So an interrupt, a full disk or an error in the middle leaves the memory as it was, and nobody ever sees half a write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mplus.memory.ledger import Ledger
from mplus.memory.log import Extent, RowLog
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import Placement
from mplus.memory.short_term import ShortTerm

PendingText = tuple[tuple[str | None, tuple[int, ...]], ...]
"""Text tokens that wait for more text, with the names of their sources, in order."""
RECENT_SOURCES = 8


@dataclass(frozen=True)
class MemoryState:
    """What a memory holds after a write.

    Attributes:
        log: all rows; ledger: where they came from; placement: where they are.
        short_term, long_term: caches of these: rows where the model computes, and the searchable view of the others.
        tail: [L, <=K, D] hidden states of the newest tokens, where rows do not hold them (``write_context="memory"``).
        tails: the same per source, where rows do not hold them (``write_context="source"``).
        recent: rows of the newest tokens of the sources written last, which rows forgotten by age may take along.
        tokens_read: text tokens written.
        pending: text that waits for more text.
        initialised: False before the first write of a published MemoryLLM without a pool.
        notes: what callers note of sources, as JSON, by name; a note goes with its source.
        ends_in_space: whether the newest text does (`write_context="memory"`); None: not known (token ids, a stored memory).
    """

    log: RowLog
    placement: Placement
    short_term: ShortTerm
    long_term: LongTerm
    ledger: Ledger = field(default_factory=Ledger)
    tail: Tensor | None = None
    tails: Mapping[str | None, Tensor] = field(default_factory=dict)
    recent: tuple[tuple[str | None, tuple[Extent, ...]], ...] = ()
    tokens_read: int = 0
    pending: PendingText = ()
    initialised: bool = True
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ends_in_space: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no text was written."""
        return not self.tokens_read and not self.pending

    @property
    def pending_tokens(self) -> int:
        """Text tokens waiting for more text."""
        return sum(len(ids) for _, ids in self.pending)

    def fork(self) -> MemoryState:
        """The same value to go on with beside this one, in another thread too."""
        return replace(self, short_term=self.short_term.clone(), long_term=self.long_term.fork(), ledger=self.ledger.fork())

    def with_recent(self, source: str | None, extent: Extent, rows: int) -> tuple[tuple[str | None, tuple[Extent, ...]], ...]:
        """``recent`` after a write of `extent`: the newest `rows` rows of each of the sources written last."""
        others = tuple(pair for pair in self.recent if pair[0] != source)
        own = () if extent.rows >= rows else self.newest_extents(source, rows)
        if own is None:  # too few rows are held: whoever asks next encodes them again
            return others
        kept, left = list[Extent](), rows
        for one in reversed((*own, extent)):
            if left > 0:
                kept.append(one if one.rows <= left else one.cut(one.stop - left, one.stop))
                left -= one.rows
        return ((source, tuple(reversed(kept))), *others[: RECENT_SOURCES - 1])

    def newest_extents(self, source: str | None, rows: int) -> tuple[Extent, ...] | None:
        """Where the newest `rows` rows of a source lie, or all that it has; None where they are not held any more."""
        known = next((extents for name, extents in self.recent if name == source), None)
        if known is not None:
            return known
        wanted, found = rows, list[Extent]()
        for chunk in self.ledger.newest_of(source):
            count = min(wanted, chunk.rows)
            parts = list(self.log.extents_of(chunk.stop - count, count))
            if sum(part.rows for part in parts) < count:
                return None
            found, wanted = [*parts, *found], wanted - count
            if not wanted:
                break
        return tuple(found)


@contextmanager
def ordinary_tensors(*, on_cpu: bool = False) -> Iterator[None]:
    """Make tensors that outlive a call: without gradient, whatever mode the caller is in.

    Tensors made under ``torch.inference_mode`` cannot be changed outside it.

    Args:
        on_cpu: on the CPU unless said otherwise, whatever device the caller has set; costs a step at every call of torch.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu") if on_cpu else contextlib.nullcontext():
        yield
