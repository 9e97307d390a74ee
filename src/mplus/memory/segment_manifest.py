"""The segments of a stored memory: how a manifest names them, how they get into a directory and back. Knows no manifest file.

A memory whose rows outgrew RAM is never read or written as a whole: its segments are linked, and opened by name and size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mplus.memory.long_term import LongTerm
from mplus.memory.stores.disk import DiskStore
from mplus.memory.stores.protocol import Store, pieces
from mplus.memory.stores.segments import Segment, link_segment


@dataclass(frozen=True)
class GroupSegments:
    """Segments of one group, oldest first.

    Attributes:
        start: rows of the first segment that are forgotten.
    """

    segments: list[Segment]
    start: int


def segments_of(store: Store) -> GroupSegments:
    """The part of a store that lies in segments; a store in RAM has none."""
    return GroupSegments(list(store.segments), store.start) if isinstance(store, DiskStore) else GroupSegments([], 0)


def loose_tensors(store: Store, group: int) -> dict[str, Tensor]:
    """What of a store lies in no segment, under the names of the data file."""
    out: dict[str, Tensor] = {}
    rows = store.tail if isinstance(store, DiskStore) else store
    for name in store.fields:
        for number, part in enumerate(rows.parts(name)):
            out[f"ltm.{group}.{name}.{number}"] = part.contiguous()
    if isinstance(store, DiskStore):
        for number, replaced in enumerate(store.replaced):
            out.update({f"ltm.{group}.{name}.segment.{number}": value.contiguous() for name, value in replaced.items()})
    return out


def link_into(groups: list[GroupSegments], directory: Path) -> list[Path]:
    """Have all segments in `directory`; gives the files that were not there before.

    Raises:
        OSError: a segment can be neither linked nor copied; nothing new is left there.
    """
    new: list[Path] = []
    try:
        for segment in (segment for sealed in groups for segment in sealed.segments):
            path = directory / segment.name
            if not path.exists():
                new.append(path)
            link_segment(segment, directory)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
    return new


def to_json(groups: list[GroupSegments]) -> list[dict[str, Any]]:
    """What a manifest says of them."""
    return [{"start": sealed.start, "segments": [segment.to_json() for segment in sealed.segments]} for sealed in groups]


def from_json(entries: list[dict[str, Any]], directory: Path) -> list[GroupSegments]:
    """What a manifest in `directory` names.

    Raises:
        ValueError, KeyError, TypeError: it is not of that form.
    """
    groups = []
    for entry in entries:
        segments, start = [Segment.from_json(one, directory) for one in entry["segments"]], entry["start"]
        if type(start) is not int or start < 0 or (segments and start >= segments[0].rows) or (start and not segments):
            raise ValueError(f"{start} rows cannot be forgotten of the first segment")
        groups.append(GroupSegments(segments, start))
    names = [segment.name for group in groups for segment in group.segments]
    if len(set(names)) < len(names):
        raise ValueError("a segment is named twice")
    return groups


def restore(long_term: LongTerm, groups: list[GroupSegments], tensors: Mapping[str, Tensor], *, in_place: bool) -> None:
    """Have empty stores hold the segments of a stored memory: linked where stores are on disk, else mapped or copied.

    Args:
        tensors: the data file, which has the columns that were replaced.
        in_place: map the segments where they are instead of copying them to RAM.

    Raises:
        StoreError: a segment is missing, truncated or of another form.
    """
    for group, sealed in enumerate(groups):
        if not sealed.segments:
            continue
        store = long_term.stores[group]
        for segment in sealed.segments:
            segment.check_size()
        sealed.segments[0].tensors(store.fields)  # another model or type is found now, not at the first question
        segment_directory, size = (
            (store.segment_directory, {"segment_rows": store.segment_rows}) if isinstance(store, DiskStore) else (None, {})
        )
        segments = sealed.segments if segment_directory is None else segment_directory.adopt(sealed.segments)
        held = DiskStore(segment_directory, store.fields, long_term.block, segments=segments, start=sealed.start, **size)
        for number, segment in enumerate(segments):
            for name, (shape, dtype) in store.fields.items():
                value = tensors.get(f"ltm.{group}.{name}.segment.{number}")
                if value is not None and (value.shape != (segment.rows, *shape) or value.dtype != dtype):
                    raise ValueError(f"replaced column {name} is {list(value.shape)}, expected {[segment.rows, *shape]}")
                if value is not None:
                    held.replaced[number][name] = value
        if segment_directory is None and not in_place:
            for rows in pieces(held):
                store.append(rows)
        else:
            long_term.stores[group] = held
