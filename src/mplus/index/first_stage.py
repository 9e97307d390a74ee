"""The base of both first-stage indexes: slabs of short rows, appended in groups, forgotten from the oldest. Knows no store and no scores.

Legend: M rows indexed, W rows of a block, F key width.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from mplus.index.pieces import groups

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slab:
    """Short forms of consecutive blocks.

    Attributes:
        fitted: what the short forms are relative to, by name; from the first group of rows.
        short: the short forms, with room for blocks to come.
        used: blocks filled.
    """

    fitted: dict[str, Tensor]
    short: Tensor
    used: int


class FirstStageIndex(ABC):
    """Short forms of all rows but the newest, which do not fill a group yet; ``len`` counts them from the oldest row held.

    How a row is shortened follows from the first rows of its slab. So that the same index can be made again, a memory keeps rows that
    were forgotten back to where the oldest slab begins (``mplus.memory.long_term.index_slab``).

    Args:
        block: W, rows that are forgotten together.
        group_rows: rows that are indexed together, rounded to whole blocks.
        keys_per_row: search keys of a row; above 1 keys are [M, r, F].
    """

    exact_below: ClassVar[int] = 65_536
    """Rows below which every one is scored and nothing is indexed."""
    candidates_per_token: ClassVar[int]
    """Rows scored exactly for each one that is read (times K0 in all)."""
    group_rows = 4096
    slab_rows: ClassVar[int]

    def __init__(self, block: int = 1, *, group_rows: int | None = None, keys_per_row: int = 1) -> None:
        self.block, self.keys_per_row = block, keys_per_row
        self.group_rows = -(-(group_rows or type(self).group_rows) // block) * block
        self._held: tuple[list[Slab], int] = [], 0  # and forgotten blocks of the first slab

    @abstractmethod
    def fit(self, keys_MF: Tensor) -> dict[str, Tensor]:
        """Matrix that shortens the rows of a slab, fitted to its first group, float32."""

    @abstractmethod
    def empty(self, fitted: dict[str, Tensor], blocks: int) -> Tensor:
        """Short forms of a slab of `blocks` blocks, not filled."""

    @abstractmethod
    def put(self, slab: Slab, first: int, keys_MF: Tensor) -> None:
        """Fill blocks of a slab from `first` on with the short forms of keys, float32."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes held."""

    def __len__(self) -> int:
        slabs, start = self._held
        return (sum(slab.used for slab in slabs) - start) * self.block

    def add(self, keys_MF: Tensor) -> None:
        """Index one group of rows [group_rows, F], the newest."""
        keys, (slabs, start) = keys_MF.float(), self._held
        blocks = keys.shape[0] // self.block
        if not slabs or slabs[-1].used + blocks > self._capacity:
            slabs = [*slabs, self._opened(self.fit(keys))]
        self.put(slabs[-1], slabs[-1].used, keys)
        self._held = [*slabs[:-1], replace(slabs[-1], used=slabs[-1].used + blocks)], start

    def refresh(self, parts: Iterable[Tensor]) -> None:
        """Index every full group of rows that is not indexed yet; each row once, O(1) a row.

        Args:
            parts: keys [m, F] of those rows, in consecutive pieces.
        """
        before, started = len(self), time.perf_counter()
        for keys in groups(parts, self.group_rows):
            self.add(keys)
        log.debug("indexed %d rows in %.2f s", len(self) - before, time.perf_counter() - started)

    def forget(self, rows: int) -> None:
        """Let go of the oldest rows, in whole blocks; a slab goes with its last one."""
        slabs, start = self._held
        start += min(rows, len(self)) // self.block
        gone = 0
        while gone < len(slabs) and start >= slabs[gone].used:
            start -= slabs[gone].used
            gone += 1
        self._held = slabs[gone:], start

    def staged(self) -> Self:
        """A copy to change next; it goes on filling the open slab, so only one of the two is used afterwards."""
        twin = type(self)(self.block, group_rows=self.group_rows, keys_per_row=self.keys_per_row)
        twin._held = self._held
        return twin

    def fork(self) -> Self:
        """A copy that shares nothing that can change: full slabs are shared, the open one is copied."""
        twin = self.staged()
        slabs, start = self._held
        if slabs:
            twin._held = [*slabs[:-1], replace(slabs[-1], short=slabs[-1].short.clone())], start
        return twin

    @property
    def slab_capacity_rows(self) -> int:
        """Rows of a slab."""
        return self._capacity * self.block

    @property
    def _capacity(self) -> int:
        """Blocks of a slab: whole groups."""
        return max(self.slab_rows // self.group_rows, 1) * (self.group_rows // self.block)

    def _opened(self, fitted: dict[str, Tensor]) -> Slab:
        return Slab(fitted, self.empty(fitted, self._capacity), 0)
