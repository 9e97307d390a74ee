"""One change of a stored memory: nobody else changes it from load to save. Knows nothing of what changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mplus.cli import terminal
from mplus.memory.stores.lock import exclusive_change

if TYPE_CHECKING:
    from mplus.memory.memory import Memory
    from mplus.model import MPlusModel

PATIENCE_S = 3600.0
"""Another command that writes into the same memory may read for minutes."""


@contextmanager
def changed(directory: Path, model: MPlusModel) -> Iterator[Memory]:
    """A stored memory, opened to be changed; it is saved at the end, and as it was where that is not reached.

    Raises:
        SnapshotError, StoreError: it cannot be opened, or another one held it all the time.
    """
    from mplus.memory.memory import Memory

    with exclusive_change(directory, timeout_s=PATIENCE_S, tell=terminal.note):
        memory = Memory.load(directory, model)
        yield memory
        memory.save(directory)
        terminal.mark_stored(directory)
