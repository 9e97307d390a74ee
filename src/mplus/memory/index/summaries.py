"""What both kinds of summaries share, and how they catch up with a store. Knows no scores and no rule of forgetting."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol, Self

import torch
from torch import Tensor

from mplus.memory.index.pieces import groups

log = logging.getLogger(__name__)


class Summaries(Protocol):
    """Of all rows of a store but the newest, which do not fill a group yet; ``len`` counts them from the oldest row held.

    How a row is summarised may follow from rows that were there before it and have been forgotten since. So that a stored memory is
    searched as the one it was stored from, ``state`` gives what follows from more than the rows held: small tensors, no rows.
    ``restore`` makes the same summaries of it and of the keys of the rows held.
    """

    group_rows: int
    exact_below: int
    candidates_per_token: int

    def __len__(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def add(self, keys: Tensor) -> None: ...
    def forget(self, rows: int) -> None: ...
    def fork(self) -> Self: ...
    def staged(self) -> Self: ...
    def state(self) -> dict[str, Tensor]: ...
    def check(self, state: dict[str, Tensor], rows: int, width: int) -> None: ...
    def restore(self, state: dict[str, Tensor], parts: Iterable[Tensor]) -> None: ...


def check_state(state: dict[str, Tensor], held: int, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise ``ValueError`` where a state read from a file is none.

    Args:
        held: what there is to summarise at most.
        shapes: of each slab's tensors, by name.
    """
    if state.keys() != {"used", *shapes}:
        raise ValueError(f"the index has {sorted(state)}, expected {sorted(['used', *shapes])}")
    start, *used = state["used"].tolist()
    if state["used"].dtype != torch.int64 or not used or not 0 <= start < used[0] or min(used) < 1 or sum(used) - start > held:
        raise ValueError(f"the index counts {state['used'].tolist()}, there are {held} to be counted")
    for name, shape in shapes.items():
        if tuple(state[name].shape) != (len(used), *shape) or state[name].dtype != torch.float32:
            raise ValueError(
                f"the index's {name} is {state[name].dtype} {list(state[name].shape)}, expected {[len(used), *shape]}"
            )


def catch_up(summaries: Summaries, parts: Iterable[Tensor]) -> None:
    """Summarise every full group of rows that is not summarised yet; each row once, O(1) a row.

    Args:
        parts: keys [m, R] of those rows, in consecutive pieces.
    """
    begin, start = len(summaries), time.perf_counter()
    for keys in groups(parts, summaries.group_rows):
        summaries.add(keys)
    log.debug("summarised %d rows in %.2f s", len(summaries) - begin, time.perf_counter() - start)
