"""Locks that threads take in turn and that no thread takes twice. Knows nothing of what they guard.

Forward passes install hooks on shared modules and a memory is updated in steps, so both need one user at a time. A plain re-entrant
lock would let a streamer or logits processor start a second pass in the middle of the first; here it gets one sentence instead.

Lock order: memories first (``in_order``), the model last. A thread that follows it never waits in a circle.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from mplus.errors import ReentryError

YIELD_S = 0.0005
"""Pause of a thread that takes a lock again at once while others wait: locks of the system are not fair."""
_serial = itertools.count()


class TurnLock:
    """One holder at a time.

    Args:
        refusal: what a thread is told that asks for a lock it holds already.
    """

    def __init__(self, refusal: str) -> None:
        self.serial = next(_serial)
        self._refusal = refusal
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._nests = False
        self._asking: set[int] = set()
        self._last: int | None = None

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._holder == threading.get_ident() and self._lock.locked()

    def refuse_reentry(self) -> None:
        """Raise where ``held`` would, without waiting for others.

        Raises:
            ReentryError: the calling thread holds the lock and did not allow itself to come back.
        """
        if self.is_mine and not self._nests:
            raise ReentryError(self._refusal)

    @contextmanager
    def held(self, *, nests: bool = False) -> Iterator[None]:
        """Wait for the lock and hold it for the length of a ``with`` block.

        Args:
            nests: let this thread take the lock again inside the block (once at a time).

        Raises:
            ReentryError: the calling thread holds the lock already.
        """
        self.refuse_reentry()
        if self.is_mine:  # inside a block that nests
            self._nests = False
            try:
                yield
            finally:
                self._nests = True
            return
        me = threading.get_ident()
        if self._last == me and self._asking - {me}:
            time.sleep(YIELD_S)
        self._asking.add(me)
        try:
            with self._lock:  # taken and given back without a step of Python between: Ctrl-C cannot fall in
                self._asking.discard(me)
                try:
                    self._holder, self._last, self._nests = me, me, nests
                    yield
                finally:
                    self._holder = None
        finally:
            self._asking.discard(me)

    @contextmanager
    def held_or_mine(self) -> Iterator[None]:
        """As ``held``, but a thread that holds the lock goes on: for what changes nothing."""
        if self.is_mine:
            yield
            return
        with self.held():
            yield


@contextmanager
def in_order(locks: Iterable[TurnLock]) -> Iterator[None]:
    """Hold several locks, always taken in the order in which they were made; those the thread holds already are left as they are."""
    with ExitStack() as stack:
        for lock in sorted({lock.serial: lock for lock in locks}.values(), key=lambda lock: lock.serial):
            stack.enter_context(lock.held_or_mine())
        yield


_turns: weakref.WeakKeyDictionary[object, TurnLock] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def turn_of(thing: object, refusal: str) -> TurnLock:
    """The one lock of an object, made when first asked for; it is no part of the object, so copies and pickles leave it out."""
    with _guard:
        found = _turns.get(thing)
        if found is None:
            found = _turns[thing] = TurnLock(refusal)
        return found
