"""Growing columns of numbers whose earlier versions stay as they are. Knows no meaning of the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

FIRST_SIZE = 256


@dataclass
class _Buffer:
    """Room for numbers, and how much of it is taken by whichever version went furthest.

    Attributes:
        end: one key, the first place that is free. Who pops it has taken it: one step, in every thread, which an interrupt cannot cut in
            two as it can a lock (at worst nobody goes on filling this room).
    """

    values: Tensor
    end: dict[int, None] = field(default_factory=dict)

    def take(self, at: int, count: int) -> bool:
        """Take `count` places from `at` on; False where another version has them or there is no room."""
        if at + count > self.values.shape[0] or self.end.pop(at, self) is self:
            return False
        self.end[at + count] = None
        return True


class Column:
    """Numbers [n] that only grow at the end and shrink at the front; a change gives a new column.

    Versions share one buffer: appending to the newest costs what is appended, appending to an older one copies it first.
    """

    def __init__(self, values: Tensor | None = None, *, dtype: torch.dtype = torch.int64) -> None:
        values = torch.empty(0, dtype=dtype, device="cpu") if values is None else values
        self._buffer = _Buffer(values, {values.shape[0]: None})
        self._start, self._end = 0, values.shape[0]

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def values(self) -> Tensor:
        """The numbers [n], not to be written to."""
        return self._buffer.values[self._start : self._end]

    def appended(self, values: Tensor) -> Column:
        """This column with more numbers [k] behind it."""
        count = values.shape[0]
        buffer, start, end = self._buffer, self._start, self._end
        if not buffer.take(end, count):
            room = max(FIRST_SIZE, 2 * (len(self) + count))
            fresh = torch.empty(room, dtype=buffer.values.dtype, device="cpu")
            fresh[: len(self)] = self.values
            buffer, start, end = _Buffer(fresh, {len(self) + count: None}), 0, len(self)
        buffer.values[end : end + count] = values
        return self._version(buffer, start, end + count)

    def without_first(self, count: int) -> Column:
        """This column without its first `count` numbers."""
        return self._version(self._buffer, min(self._start + count, self._end), self._end)

    @staticmethod
    def _version(buffer: _Buffer, start: int, end: int) -> Column:
        twin = Column.__new__(Column)
        twin._buffer, twin._start, twin._end = buffer, start, end
        return twin
