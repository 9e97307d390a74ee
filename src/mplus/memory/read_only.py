"""A memory restricted to some sources and a span of time, to be read only. Copies no rows of the log; knows no search and no pass.

A view shows the memory it was made of as that is now: it shares its lock, and makes its state anew when the memory has changed. What
stands in it follows from the writes that it shows alone: the placement is replayed with these, as forgetting all others would.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mplus.errors import InputError
from mplus.memory import rewriting
from mplus.memory.memory import Memory
from mplus.memory.rows import EncodedChunk
from mplus.memory.selection import ReadScope
from mplus.memory.state import MemoryState, ordinary_tensors


class ReadOnlyMemory(Memory):
    """What of a memory lies within a scope; made by ``memory.read_only``, whose text says what it equals.

    Args:
        base: the memory that is shown.
        scope: which of its writes.
    """

    def __init__(self, base: Memory, scope: ReadScope) -> None:
        self.__dict__.update({name: value for name, value in base.__dict__.items() if name != "_state"})
        self.base, self.scope = base, scope
        self._shown: tuple[MemoryState, MemoryState] | None = None

    @property
    def _state(self) -> MemoryState:
        whole, shown = self.base.state, self._shown
        if shown is None or shown[0] is not whole:
            with ordinary_tensors():
                shown = self._shown = whole, rewriting.within(self.base, whole, self.scope)
        return shown[1]

    @_state.setter
    def _state(self, state: MemoryState) -> None:
        self.check_changeable()

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; read only: {self.scope})"

    def check_changeable(self) -> NoReturn:
        """Refuse whatever would change it.

        Raises:
            InputError: always.
        """
        raise InputError("this is a view to read a memory by; change the memory that it was made of")

    def make_room(self, new_tokens: int) -> None:
        """See ``Memory``; a view takes nothing in."""
        self.check_changeable()

    def take(self, ready: Any) -> None:
        """See ``Memory``; a view takes nothing in."""
        self.check_changeable()

    def update(self, written: EncodedChunk, *arguments: Any, **named: Any) -> None:
        """See ``Memory``; a view takes nothing in."""
        self.check_changeable()

    def note(self, source: str, note: Mapping[str, Any]) -> None:
        """See ``Memory``; nothing is noted on a view."""
        self.check_changeable()

    def save(self, directory: str | Path, *, overwrite: bool = False) -> None:
        """See ``Memory``; a view is not stored."""
        raise InputError("a view of a memory is not stored; fork the memory, forget the other sources, and save that")

    def fork(self) -> Memory:
        """The same view of a fork of its memory."""
        return ReadOnlyMemory(self.base.fork(), self.scope)
