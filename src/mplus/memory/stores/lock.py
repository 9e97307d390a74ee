"""Who may change what is stored in a directory: one at a time, by locks that the kernel gives back. Knows no file's meaning.

Two locks: ``.save.lock`` is held while what is stored is read, changed and stored again, and is removed afterwards;
``.store.lock`` is held as long as a memory keeps its long-term rows in the directory. Readers need neither.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mplus.errors import StoreError
from mplus.memory.file_names import LOCK as LOCK
from mplus.memory.file_names import SAVE_LOCK

log = logging.getLogger(__name__)
PATIENCE_S = 30.0
TOLD_AFTER_S = 1.0
POLL_S = 0.02

_held: dict[tuple[int, int], tuple[int, int]] = {}
"""Device and inode of a directory to the process and thread that may change it."""


@contextlib.contextmanager
def exclusive_change(
    directory: Path, *, in_own_store: bool = False, timeout_s: float = PATIENCE_S, tell: Callable[[str], None] = log.warning
) -> Iterator[None]:
    """Be the only one that changes what is stored in `directory`, which is made if absent and removed if it stays empty.

    A thread that holds it already goes on at once.

    Args:
        in_own_store: the caller is the memory whose long-term rows are kept in this very directory, or is to become it.
        timeout_s: how long another one is waited for.
        tell: takes a sentence when that lasts longer than a second.

    Raises:
        StoreError: it is in use by a long-term store, or another one held it all the time.
        OSError: the directory cannot be made or locked.
    """
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    me = (os.getpid(), threading.get_ident())
    if not missing and _held.get(identity(directory)) == me:
        yield
        return
    lock: FileLock | None = None
    place: tuple[int, int] | None = None
    try:
        lock = _acquired(directory, timeout_s, tell)
        place = identity(directory)
        _held[place] = me
        with contextlib.nullcontext() if in_own_store else no_store(directory):
            yield
    finally:
        if place is not None:
            _held.pop(place, None)
        if lock is not None:
            _give_back(lock, place)
        for made in missing:
            with contextlib.suppress(OSError):  # it holds something, as it should
                made.rmdir()


@contextlib.contextmanager
def no_store(directory: Path) -> Iterator[None]:
    """Keep a directory from being taken as a long-term store meanwhile.

    Raises:
        StoreError: it is one now.
    """
    lock = acquire_store_lock(directory) if (directory / LOCK).exists() else None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def acquire_store_lock(directory: Path) -> FileLock:
    """The lock of a long-term store in `directory`, which is made if absent.

    Raises:
        StoreError: another one has it.
        OSError: the directory cannot be made or locked.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"the long-term store {directory} is in use by another memory or process; choose another directory or end that one"
        ) from None
    return lock


def _acquired(directory: Path, timeout_s: float, tell: Callable[[str], None]) -> FileLock:
    began, told = time.monotonic(), False
    while True:
        waited_s = time.monotonic() - began
        if waited_s > TOLD_AFTER_S and not told:
            tell(f"waiting for {owner_of(directory / SAVE_LOCK)}, which is changing the memory in {directory}")
            told = True
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(directory / SAVE_LOCK, thread_local=False)
            lock.acquire(timeout=max(0.0, min(TOLD_AFTER_S, timeout_s - waited_s)), poll_interval=POLL_S)
        except Timeout:
            if time.monotonic() - began < timeout_s:
                continue
            raise StoreError(
                f"the memory in {directory} is being changed by {owner_of(directory / SAVE_LOCK)}, which did not end within {timeout_s:.0f} s; "
                "nothing was stored, try again when it has ended"
            ) from None
        except FileNotFoundError:  # whoever made the directory failed and removed it again
            if time.monotonic() - began < timeout_s:
                continue
            raise
        sign(directory / SAVE_LOCK)
        return lock


def sign(path: Path) -> None:
    """Leave our number in a lock's file, for those who wait."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="ascii").strip().isdigit() or not path.stat().st_size:
            path.write_text(f"{os.getpid()}\n", encoding="ascii")


def owner_of(path: Path) -> str:
    """Who signed a lock's file, for a sentence."""
    try:
        with path.open(encoding="ascii") as file:
            number = file.read(20).strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    if number == str(os.getpid()):
        return "another thread of this process"
    return f"process {number}" if number.isdigit() else "another process"


def _give_back(lock: FileLock, place: tuple[int, int] | None) -> None:
    """Remove the lock file, then let go; a directory that came there meanwhile (ours was deleted) has a lock of its own."""
    with contextlib.suppress(OSError):  # while it is ours: whoever waits finds it without a name and makes a new one
        if place in (None, identity(Path(lock.lock_file).parent)):
            os.unlink(lock.lock_file)
    lock.release(force=True)


def identity(directory: Path) -> tuple[int, int]:
    """Device and inode of a directory, the same by every path to it."""
    found = directory.stat()
    return found.st_dev, found.st_ino
