"""What a stored row is made of. Knows no place where rows lie."""

from __future__ import annotations

from collections.abc import Mapping

import torch

FieldSpec = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Field name to (shape of one row, dtype)."""


def bytes_per_row(fields: FieldSpec) -> int:
    """Bytes of one row over all fields."""
    return sum(field_bytes(fields, name) for name in fields)


def field_bytes(fields: FieldSpec, name: str) -> int:
    """Bytes of one row of a field."""
    shape, dtype = fields[name]
    return torch.Size(shape).numel() * dtype.itemsize
