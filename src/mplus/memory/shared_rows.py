"""Rows of chunks that some memory of this process holds, by content, so that the same text is encoded once. Knows no model.

Legend: k rows of a chunk.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import dataclass

from mplus.memory.log import Extent, Slab
from mplus.memory.stores.segments import Segment


@dataclass(frozen=True)
class _Place:
    piece: weakref.ref[Slab | Segment]
    first: int
    rows: int


class SharedRows:
    """Where rows of known chunks lie. It holds none of them: what no memory holds any more is not found."""

    def __init__(self) -> None:
        self._places: dict[Hashable, _Place] = {}

    def note(self, key: Hashable, extent: Extent) -> None:
        """Remember where the rows of a chunk lie."""
        places = self._places

        def forget(_: object) -> None:
            places.pop(key, None)

        places[key] = _Place(weakref.ref(extent.piece, forget), extent.first, extent.rows)

    def find(self, key: Hashable) -> Extent | None:
        """Where the rows of a chunk lie, if some memory holds them."""
        place = self._places.get(key)
        piece = None if place is None else place.piece()
        return None if place is None or piece is None else Extent(piece, place.first, place.rows, 0)

    def forget(self, key: Hashable) -> None:
        """Do not give out these rows any more."""
        self._places.pop(key, None)

    def __len__(self) -> int:
        return len(self._places)
