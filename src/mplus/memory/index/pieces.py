"""One field of a store's rows, read in the order of the store and without copying the whole. Knows no scores.

Legend: M rows held, k rows asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mplus.memory.stores.protocol import Store


def rows_at(store: Store, field: str, rows: Tensor) -> Tensor:
    """One field [k, ...] of the rows at `rows` [k], ascending: one copy per piece of the store that holds any of them."""
    shape, dtype = store.fields[field]
    out = torch.empty(rows.shape[0], *shape, dtype=dtype)
    parts = list(store.parts(field))
    bounds = torch.tensor([0, *(part.shape[0] for part in parts)]).cumsum(0)
    cuts = torch.searchsorted(rows, bounds).tolist()
    first = bounds.tolist()
    for number, part in enumerate(parts):
        begin, end = cuts[number], cuts[number + 1]
        if begin < end:
            torch.index_select(part, 0, rows[begin:end] - first[number], out=out[begin:end])
    return out


def groups_from(store: Store, field: str, begin: int, size: int) -> Iterator[Tensor]:
    """Consecutive groups [size, ...] of one field, from row `begin` on; what is left over at the end is not given."""
    held: list[Tensor] = []
    count, skip = 0, begin
    for part in store.parts(field):
        if skip >= part.shape[0]:
            skip -= part.shape[0]
            continue
        rest, skip = part[skip:], 0
        while rest.shape[0]:
            take = rest[: size - count]
            held.append(take)
            count, rest = count + take.shape[0], rest[take.shape[0] :]
            if count == size:
                yield held[0] if len(held) == 1 else torch.cat(held)
                held, count = [], 0


def rows_from(store: Store, field: str, begin: int) -> Tensor:
    """One field [M - begin, ...] of all rows from `begin` on."""
    held = []
    for part in store.parts(field):
        if begin < part.shape[0]:
            held.append(part[begin:])
        begin = max(0, begin - part.shape[0])
    shape, dtype = store.fields[field]
    if not held:
        return torch.empty(0, *shape, dtype=dtype)
    return held[0] if len(held) == 1 else torch.cat(held)
