"""The directory in which a memory keeps rows that outgrow RAM, and how large its segments are. Knows no row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mplus.memory.stores.fields import FieldSpec, bytes_per_row
from mplus.memory.stores.segment_directory import SegmentDirectory
from mplus.runtime.input_file import absolute_directory

SEGMENT_ROWS, MOST_SEGMENT_ROWS = 4096, 65_536
SEGMENT_BYTES = 64 << 20
"""A segment has as many rows as come to about this, within the two bounds: many small files cost a step each at every read."""


class DiskStorage:
    """A directory of segments, for one memory and its forks at a time.

    Only rows that somebody reads come into RAM, and as page cache; so a memory may be far larger than RAM.

    Args:
        path: made if absent.
        segment_rows: about the rows of a segment, also about what a memory keeps in RAM; None: by their size.
        saved: names of the segments that the memory saved in `path` needs, when that is the one to go on with.

    Raises:
        StoreError: see ``SegmentDirectory``.
    """

    def __init__(self, path: Path, *, segment_rows: int | None = None, saved: Sequence[str] | None = None) -> None:
        self.segment_directory = SegmentDirectory(path, saved)
        self.segment_rows = segment_rows

    def rows_of_segment(self, fields: FieldSpec) -> int:
        """Rows that make a segment."""
        return self.segment_rows or segment_rows(fields)


def segment_rows(fields: FieldSpec) -> int:
    """Rows of a segment where nobody says otherwise."""
    return min(max(SEGMENT_BYTES // bytes_per_row(fields), SEGMENT_ROWS), MOST_SEGMENT_ROWS)


def storage_at(store: DiskStorage | str | Path) -> DiskStorage | None:
    """What a user's word for a storage means: None is RAM, else the directory that segments are to be written to.

    Raises:
        StoreError: see ``SegmentDirectory``.
    """
    if store == "ram":
        return None
    return DiskStorage(absolute_directory(store)) if isinstance(store, (str, Path)) else store
