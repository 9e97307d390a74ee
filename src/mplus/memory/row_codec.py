"""Number types of long-term rows: what each field is stored as, and int8 with a scale per token. Knows no store and no model.

Legend: k rows, L layers, H kv heads, E head width, F search key width.
Stores hold what ``encode`` gives and never look into it; a scale is one more field of the row, ``keys_scale`` beside ``keys``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mplus.errors import GeometryError
from mplus.memory.rows import RowLayout, Rows
from mplus.memory.stores.fields import FieldSpec
from mplus.settings import Geometry

LEVELS = 127  # on each side of 0; -128 stays unused, so that a number and its negative round alike
SCALE_DTYPE = torch.bfloat16
"""Two bytes with the exponents of float32, so that no row is too large or too small. That a scale is rounded costs nothing: the
levels are made with the rounded one, which moves the largest number by a quarter of a level at most."""
SCALE = "_scale"


class RowCodec:
    """Real-valued rows to stored ones and back.

    A scale holds for one token, field and layer: it spans the last dimensions, those that the layout names.

    Attributes:
        fields: what is stored of one row: name to shape and number type, scales included; the layers stand first, but for search keys
            that all layers share.

    Raises:
        GeometryError: see ``check_row_types``.
    """

    def __init__(self, layout: RowLayout, geometry: Geometry) -> None:
        check_row_types(layout, geometry)
        self._dtype = layout.dtype
        self._own_dims = {name: len(shape) for name, shape in layout.fields.items()}
        fields: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        for name, shape in layout.fields.items():
            above = () if name == "search" and geometry.read.is_shared else (layout.layers,)
            fields[name] = ((*above, *shape), kept := _kept(layout, geometry, name))
            if kept is torch.int8:
                fields[name + SCALE] = (above, SCALE_DTYPE)
        self.fields: FieldSpec = fields

    def has_scale(self, name: str) -> bool:
        """Whether a field is stored as int8."""
        return name + SCALE in self.fields

    def stored_names(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """What must be fetched to have these fields."""
        return tuple(stored for name in names for stored in (name, name + SCALE) if stored in self.fields or stored == name)

    def encode(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rows [k, ...] as they are stored; other number types are converted by the store."""
        out: dict[str, Tensor] = {}
        for name, value in rows.items():
            out[name] = value
            if self.has_scale(name):
                out[name], out[name + SCALE] = quantise(value, self._own_dims[name])
        return out

    def decode(self, stored: Mapping[str, Tensor], names: tuple[str, ...]) -> Rows:
        """Fields [k, ...] in the layout's number type."""
        out: Rows = {}
        for name in names:
            if self.has_scale(name):
                out[name] = dequantise(stored[name], stored[name + SCALE], self._own_dims[name], self._dtype)
            else:
                out[name] = stored[name].to(self._dtype)
        return out

    def stored(self, rows: Rows) -> dict[str, Tensor]:
        """Rows [L or 1, n, ...] of a write pass as the log keeps them, [n, L, ...], on the CPU."""
        by_row = {name: self._by_row(name, rows[name]) for name in self._own_dims}
        return {name: value.to("cpu", self.fields[name][1]) for name, value in self.encode(by_row).items()}

    def of_log(self, stored: Mapping[str, Tensor], names: tuple[str, ...]) -> Rows:
        """Rows [L or 1, k, ...] of what the log keeps."""
        return {
            name: value[None] if self._is_alone(name) else value.transpose(0, 1)
            for name, value in self.decode(stored, names).items()
        }

    def rounded(self, rows: Rows) -> Rows:
        """Rows [L or 1, n, ...] as they will be read: a row has one value for life, in short-term and in long-term memory."""
        if all(self.fields[name][1] == self._dtype for name in self._own_dims):
            return {name: rows[name] for name in self._own_dims}
        device = next(iter(rows.values())).device
        names = tuple(self._own_dims)
        return {name: value.to(device) for name, value in self.of_log(self.stored(rows), names).items()}

    def _by_row(self, name: str, value: Tensor) -> Tensor:
        return value[0] if self._is_alone(name) else value.transpose(0, 1)

    def _is_alone(self, name: str) -> bool:
        """Whether all layers share a field."""
        return len(self.fields[name][0]) == self._own_dims[name]


def check_row_types(layout: RowLayout, geometry: Geometry) -> None:
    """Raise GeometryError unless rows of this layout can be kept as the geometry says."""
    if geometry.storage.ltm_dtype == "int8" and layout.format == "hidden":
        raise GeometryError(
            "ltm_dtype 'int8' was asked of a memory of format 'hidden', whose rows are normalised and projected again at every read, "
            "so that rounding them to int8 would spoil keys and values; choose memory_format='kv', or ltm_dtype='bfloat16'"
        )


def quantise(value: Tensor, own_dims: int) -> tuple[Tensor, Tensor]:
    """int8 levels [...] and one scale per `own_dims` last dimensions: value ~ levels * scale.

    The error of a number is half a scale at most. A row that is not finite comes back as NaN.
    """
    real = value.float()
    dims = tuple(range(-own_dims, 0))
    scale = (real.abs().amax(dims, keepdim=True) / LEVELS).to(SCALE_DTYPE)
    levels = (real / scale.float()).nan_to_num_(0.0).round_().clamp_(-LEVELS, LEVELS).to(torch.int8)
    return levels, scale.flatten(value.dim() - own_dims).squeeze(-1)


def dequantise(levels: Tensor, scale: Tensor, own_dims: int, dtype: torch.dtype) -> Tensor:
    """The numbers that ``quantise`` was given, to half a scale, in `dtype`."""
    return levels.to(dtype).mul_(scale.to(dtype)[(..., *[None] * own_dims)])


def _kept(layout: RowLayout, geometry: Geometry, name: str) -> torch.dtype:
    kept = geometry.storage.ltm_search_dtype if name == "search" else geometry.storage.ltm_dtype
    found: torch.dtype = layout.dtype if kept == "model" else getattr(torch, kept)
    return found
