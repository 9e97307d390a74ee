"""What long-term memory asks of the place its rows live in. Knows no place.

Legend: M rows held, k rows of one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

FieldSpec = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Field name to (shape of one row, dtype)."""


class Store(Protocol):
    """Rows of one drop group. All indices count the rows held now, oldest first. What a store yields is not to be written to."""

    @property
    def fields(self) -> FieldSpec:
        """What a row is made of."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows held, wherever they lie."""

    def __len__(self) -> int: ...

    def reserve(self, rows: int = 0) -> None:
        """Make room, so that appending `rows` rows cannot fail; the rows held stay the same.

        Raises:
            StoreError: there is no room on disk; nothing changed.
            RuntimeError, MemoryError: there is no room in RAM; nothing changed.
        """

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add rows [k, ...] at the end."""

    def gather(self, index: Tensor, fields: tuple[str, ...]) -> dict[str, Tensor]:
        """Rows [k, ...] at `index` [k]."""

    def column(self, field: str) -> Tensor:
        """One field of all rows, [M, ...]; a copy unless one piece holds everything."""

    def parts(self, field: str) -> Iterator[Tensor]:
        """One field of all rows, in consecutive pieces without a copy."""

    def evict_oldest(self, count: int) -> None:
        """Forget the first `count` rows."""

    def keep(self, mask: Tensor) -> None:
        """Forget the rows where `mask` [M] is False."""

    def set_column(self, field: str, values: Tensor) -> None:
        """Replace one field of all rows by `values` [M, ...]."""

    def fork(self) -> Store:
        """A copy that shares nothing that can change."""

    def staged(self) -> Store:
        """A copy to change next: it goes on filling what this one fills, so only one of the two is used afterwards."""

    def close(self) -> None:
        """Let go of all rows and of what holds them."""


class Storage(Protocol):
    """Where all stores of one memory live."""

    def new_store(self, fields: FieldSpec, row_multiple: int) -> Store:
        """An empty store whose pieces hold multiples of `row_multiple` rows, so that no block of neighbours is cut in two."""


def pieces(store: Store) -> Iterator[dict[str, Tensor]]:
    """All fields of all rows, in consecutive pieces without a copy."""
    for parts in zip(*(store.parts(name) for name in store.fields), strict=True):
        yield dict(zip(store.fields, parts, strict=True))


def bytes_per_row(fields: FieldSpec) -> int:
    """Bytes of one row over all fields."""
    return sum(field_bytes(fields, name) for name in fields)


def field_bytes(fields: FieldSpec, name: str) -> int:
    """Bytes of one row of a field."""
    shape, dtype = fields[name]
    return torch.Size(shape).numel() * dtype.itemsize
