"""Everything of a memory that a write changes, as one value that is replaced whole. Knows no model, no text and no file.

A change is made on a ``staged`` copy, which costs little because rows that are held are shared and never overwritten: new rows go
where nothing stands. Then the memory takes the copy in one assignment. So an interrupt, a full disk or an error in the middle leaves the
memory as it was, and nobody ever sees half a write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import torch
from torch import Tensor

from mplus.memory.ledger import Ledger
from mplus.memory.long_term import LongTerm
from mplus.memory.short_term import ShortTerm

if TYPE_CHECKING:
    from mplus.memory.memory import Memory

T = TypeVar("T")
PendingText = list[tuple[str | None, list[int]]]
"""Text tokens that wait for more text, with the names of their sources, in order."""


@dataclass
class MemoryState:
    """What a memory holds after a write.

    Attributes:
        pool: short-term rows.
        longterm: long-term rows.
        generator: of random drops.
        ledger: which tokens came from which source.
        tail: [L, <=K, D] hidden states of the newest tokens, where the pool does not hold them.
        now: memory tokens written; tokens_read: text tokens written.
        pending: text that waits for more text.
        initialised: False before the first write of a published MemoryLLM without a pool.
        ends_in_space: whether the newest text does; None: not known (token ids, a stored memory).
    """

    short_term: ShortTerm
    long_term: LongTerm
    generator: torch.Generator
    ledger: Ledger = field(default_factory=Ledger)
    tail: Tensor | None = None
    now: int = 0
    tokens_read: int = 0
    pending: PendingText = field(default_factory=list)
    initialised: bool = True
    ends_in_space: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no text was written."""
        return not self.tokens_read and not self.pending

    def staged(self) -> MemoryState:
        """A copy to make one change on; either it or this one may be used afterwards, not both."""
        return self._copied(self.short_term.staged(), self.long_term.staged())

    def fork(self) -> MemoryState:
        """A copy that shares nothing that can change."""
        twin = self._copied(self.short_term.clone(), self.long_term.fork())
        twin.tail = None if self.tail is None else self.tail.clone()
        return twin

    def _copied(self, short_term: ShortTerm, long_term: LongTerm) -> MemoryState:
        generator = torch.Generator()
        generator.set_state(self.generator.get_state())
        return MemoryState(
            short_term=short_term,
            long_term=long_term,
            generator=generator,
            ledger=self.ledger.clone(),
            tail=self.tail,
            now=self.now,
            tokens_read=self.tokens_read,
            pending=[(source, list(ids)) for source, ids in self.pending],
            initialised=self.initialised,
            ends_in_space=self.ends_in_space,
        )


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Make tensors that outlive a call: on the CPU unless said otherwise, without gradient, whatever mode the caller is in.

    Tensors made under ``torch.inference_mode`` cannot be changed outside it.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        yield


class StateAttribute(Generic[T]):
    """An attribute of ``Memory`` that lies in its state."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, memory: None, owner: type) -> StateAttribute[T]: ...
    @overload
    def __get__(self, memory: Memory, owner: type) -> T: ...
    def __get__(self, memory: Memory | None, owner: type) -> StateAttribute[T] | T:
        return self if memory is None else getattr(memory._state, self.name)

    def __set__(self, memory: Memory, value: T) -> None:
        setattr(memory._state, self.name, value)
