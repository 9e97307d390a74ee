"""A directory of segments that one process writes to: its lock, and which files are still wanted. Knows no row.

A file stays while a store holds it or the saved memory of this directory names it. What was never saved ends with the process,
as a memory in RAM does; what a killed process left is cleared when the directory is opened the next time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from mplus.errors import StoreError
from mplus.memory.file_names import ASIDE, MANIFEST, is_beside, is_segment
from mplus.memory.stores.fields import FieldSpec, bytes_per_row
from mplus.memory.stores.lock import acquire_store_lock, exclusive_change
from mplus.memory.stores.segments import Segment, link_segment, write_segment
from mplus.runtime.folder import names_in
from mplus.runtime.input_file import absolute_directory

log = logging.getLogger(__name__)


class SegmentDirectory:
    """The sole writer of one directory, until it is garbage or the process ends.

    Args:
        path: made if absent.
        saved: names of the segments that the memory saved in `path` needs; None when no saved memory is expected there. Where
            there is one, nothing is removed before ``clear_leftovers``.

    Raises:
        StoreError: in use, not a directory, not to be written, holding something else, or holding a saved memory that the
            caller does not know of. What was there is unchanged.
    """

    def __init__(self, path: Path, saved: Iterable[str] | None = None) -> None:
        self.path = absolute_directory(path)
        _check_content(self.path, saved is not None)
        try:
            with exclusive_change(self.path, in_own_store=True):  # a save that is on its way here ends first
                _check_content(self.path, saved is not None)
                self._lock = acquire_store_lock(self.path)
        except OSError as error:
            raise StoreError(
                f"the long-term store {self.path} cannot be made or locked: {_reason(error)}; choose a directory that you may write"
            ) from None
        self._unlock = weakref.finalize(self, self._lock.release, force=True)
        self._claims = Counter(saved or ())
        self._saved = list(self._claims)
        self._gone: deque[str] = deque()
        self._guard = threading.Lock()  # of the claims: forks may be used in several threads. A release never waits for it,
        self._process = os.getpid()  # because a finaliser calls it wherever the collector happens to run
        if saved is None:
            self.clear_leftovers()

    def clear_leftovers(self) -> None:
        """Remove segments that nobody holds: of a memory that was never saved, or of a killed process.

        Only after the memory that is saved here was found to be good; else a damaged manifest would cost its rows.
        """
        left: list[Path] = []
        with self._guard, contextlib.suppress(OSError):  # what stays is no harm
            entries = list(self.path.iterdir())
            left = [entry for entry in entries if is_segment(entry.name) and entry.name not in self._claims]
            for entry in left:
                with contextlib.suppress(OSError):
                    entry.unlink(missing_ok=True)
            for entry in entries:
                if ASIDE.fullmatch(entry.name):
                    shutil.rmtree(entry, ignore_errors=True)
        self._drop_gone()
        if left:
            log.warning("removed %d segments of a memory that was not saved from %s", len(left), self.path)

    def write(self, rows: Mapping[str, Tensor], fields: FieldSpec) -> Segment:
        """A new segment of rows [M, ...], claimed for the caller.

        Raises:
            StoreError: the directory cannot take it.
        """
        count = next(iter(rows.values())).shape[0]
        try:
            segment = write_segment(self.path, rows, fields)
        except (OSError, SafetensorError) as error:
            needed_bytes = count * bytes_per_row(fields)
            raise StoreError(
                f"{count:,} rows ({needed_bytes / 1e6:.1f} MB) cannot be stored in {self.path}: {_reason(error)}; "
                "they stay in RAM and nothing is lost, make room there and write again"
            ) from None
        self._claim(segment)
        log.debug("stored %d rows in %s", count, segment.path)
        return segment

    def adopt(self, segment: Segment) -> Segment:
        """A segment of another directory, linked into this one.

        Raises:
            StoreError: the directory cannot take it.
        """
        try:
            own = link_segment(segment, self.path)
        except OSError as error:
            raise StoreError(f"segment {segment.path} cannot be taken into {self.path}: {_reason(error)}") from None
        self._claim(own)
        return own

    def _claim(self, segment: Segment) -> None:
        """Keep the file as long as the object is used; one that nobody uses is removed (who has it mapped keeps its content)."""
        with self._guard:
            self._claims[segment.name] += 1
        self._drop_gone()
        weakref.finalize(segment, self._release, [segment.name])

    @property
    def saved(self) -> list[str]:
        """Names of the segments that the memory saved in this directory needs."""
        return list(self._saved)

    def set_saved(self, names: Iterable[str]) -> None:
        """The memory saved in this directory now needs these segments and no others."""
        fresh = list(names)
        with self._guard:
            before, self._saved = self._saved, fresh
            self._claims.update(fresh)
        self._release(before)

    def _release(self, names: Iterable[str]) -> None:
        if os.getpid() != self._process:  # a forked process drops its copies of our objects: the files are not its own
            return
        self._gone.extend(names)
        self._drop_gone()

    def _drop_gone(self) -> None:
        while self._gone and self._guard.acquire(blocking=False):  # else its holder comes by here afterwards
            try:
                while self._gone:
                    self._drop(self._gone.popleft())
            finally:
                self._guard.release()

    def _drop(self, name: str) -> None:
        self._claims[name] -= 1
        if self._claims[name] <= 0:
            del self._claims[name]
            with contextlib.suppress(OSError):  # left behind at worst, and cleared when the directory is opened again
                (self.path / name).unlink(missing_ok=True)


def _check_content(path: Path, resumes: bool) -> None:
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path} is a file, a long-term store needs a directory of its own; choose another path")
    if not path.is_dir() or resumes:
        return
    if (path / MANIFEST).exists():
        raise StoreError(
            f"{path} holds a saved memory; go on with it by Memory.load(path, model, store=path), "
            "or choose an empty or new directory for a new one"
        )
    foreign = next((name for name in names_in(path) if not is_beside(name)), None)
    if foreign is not None:
        raise StoreError(f"{path} holds files that are no long-term store ({foreign}); choose an empty or new directory")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
