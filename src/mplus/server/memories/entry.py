"""One memory that a server has, open or not, and the sentences for those it has not. Knows no disk and no model."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from mplus.memory.memory import Memory
from mplus.server.errors import ConflictError, UnknownMemoryError
from mplus.server.memories.opened import Opened
from mplus.server.memories.place import MemoryRecord, Place
from mplus.server.scope import Scope


@dataclass(eq=False)
class Entry:
    """One memory that there is.

    Attributes:
        changing: held by who changes, opens, saves or closes it.
        pins: how many use it now.
        is_gone: it was deleted; who waited for it looks again.
        is_large: it was told that it is larger than the budget.
    """

    scope: Scope
    place: Place
    record: MemoryRecord
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    opened: Opened | None = None
    pins: int = 0
    last_used: float = field(default_factory=time.time)
    is_gone: bool = False
    is_large: bool = False

    @property
    def memory(self) -> Memory:
        """Its value now.

        Raises:
            UnknownMemoryError: it was deleted meanwhile.
        """
        if self.opened is None:
            raise unknown(self.scope)
        return self.opened.memory

    @property
    def tokens(self) -> int:
        """Text tokens."""
        return self.record.tokens if self.opened is None else self.opened.tokens

    @property
    def sources(self) -> int:
        """How many it has."""
        return self.record.sources if self.opened is None else self.opened.sources

    @property
    def ram_bytes(self) -> int:
        """Bytes that it holds open."""
        return 0 if self.opened is None else self.opened.ram_bytes

    @property
    def bytes(self) -> int:
        """Bytes that it counts for its tenant: of its files, or of its rows where they are more, and of its journal."""
        if self.opened is None:
            return self.record.bytes
        return max(self.record.bytes, self.opened.ram_bytes) + self.opened.journal.size_bytes

    def drop(self) -> None:
        """Close it as it is: what is not saved is in its journal."""
        if self.opened is not None:
            self.opened.journal.close()
            self.opened = None


def unknown(scope: Scope) -> UnknownMemoryError:
    """The one sentence for a memory that is not there, or not this tenant's."""
    return UnknownMemoryError(f"there is no memory {scope.memory!r}; create it, or GET /v1/memories for those there are")


def taken(scope: Scope) -> ConflictError:
    """The sentence for an id that is in use."""
    return ConflictError(f"memory {scope.memory!r} exists already; choose another id, or delete it first")
