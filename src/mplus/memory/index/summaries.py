"""What both kinds of summaries share, and how they catch up with a store. Knows no scores and no rule of forgetting."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol, Self

from torch import Tensor

from mplus.memory.index.pieces import groups

log = logging.getLogger(__name__)


class Summaries(Protocol):
    """Of all rows of a store but the newest, which do not fill a group yet; ``len`` counts them from the oldest row held."""

    group_rows: int

    def __len__(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def add(self, keys: Tensor) -> None: ...
    def forget(self, rows: int) -> None: ...
    def fork(self) -> Self: ...
    def staged(self) -> Self: ...


def catch_up(summaries: Summaries, parts: Iterable[Tensor]) -> None:
    """Summarise every full group of rows that is not summarised yet; each row once, O(1) a row.

    Args:
        parts: keys [m, R] of those rows, in consecutive pieces.
    """
    begin, start = len(summaries), time.perf_counter()
    for keys in groups(parts, summaries.group_rows):
        summaries.add(keys)
    log.debug("summarised %d rows in %.2f s", len(summaries) - begin, time.perf_counter() - start)
