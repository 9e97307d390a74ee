"""Rows gathered out of many pieces in as few steps as there are pieces, into host memory. Knows no piece's origin.

Legend: k rows asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from mplus.memory.stores.fields import FieldSpec

log = logging.getLogger(__name__)


def host_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in host memory, pinned if CUDA is there and has room for that.

    Raises:
        RuntimeError, MemoryError: there is no room at all.
    """
    if torch.cuda.is_available():
        try:
            return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=True)
        except RuntimeError as error:  # pinned memory is limited apart from RAM
            reason = str(error).partition("\n")[0]
            log.warning("%s of %s cannot be pinned (%s); copies to the GPU will be slower", list(shape), dtype, reason)
    return torch.empty(shape, dtype=dtype, device="cpu")


@dataclass(frozen=True)
class Share:
    """What one piece contributes.

    Attributes:
        piece: its number.
        places: [j] rows of the piece, ascending.
        rows: where they stand among the rows asked for: a slice where these are ascending, else [j].
    """

    piece: int
    places: Tensor
    rows: slice | Tensor


def shares(index: Tensor, sizes: Sequence[int]) -> list[Share]:
    """Which piece has which of the rows `index` [k], when rows are counted through pieces of these sizes."""
    ascending = bool((index.diff() >= 0).all())
    ordered, order = (index, None) if ascending else index.sort()
    bounds = torch.tensor([0, *sizes], dtype=torch.int64, device="cpu").cumsum(0)
    first, cuts = bounds.tolist(), torch.searchsorted(ordered, bounds).tolist()
    if cuts[0] or cuts[-1] != index.shape[0]:
        raise IndexError(f"rows {int(ordered[0])}..{int(ordered[-1])} were asked for, {first[-1]} are held")
    return [
        Share(number, ordered[begin:end] - first[number], slice(begin, end) if order is None else order[begin:end])
        for number, (begin, end) in enumerate(pairwise(cuts))
        if begin < end
    ]


def gathered(
    found: list[Share], count: int, fields: FieldSpec, names: tuple[str, ...], piece: Callable[[int, str], Tensor]
) -> dict[str, Tensor]:
    """The rows [count, ...] that shares describe.

    Args:
        piece: number and field to the rows of a piece.
    """
    out = {name: host_empty((count, *fields[name][0]), fields[name][1]) for name in names}
    for share in found:
        for name in names:
            if isinstance(share.rows, slice):
                torch.index_select(piece(share.piece, name), 0, share.places, out=out[name][share.rows])
            else:
                out[name].index_copy_(0, share.rows, piece(share.piece, name).index_select(0, share.places))
    return out
