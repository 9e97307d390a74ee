"""Queues in which tenants take turns. Knows nothing of what waits."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class TenantQueue(Generic[T]):
    """First come, first served within a tenant; tenants in turn."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[T]:
        """All that waits, tenant by tenant."""
        return iter([one for line in self._lines.values() for one in line])

    def put(self, tenant: str, item: T) -> None:
        """Add something behind what this tenant has waiting."""
        self._lines.setdefault(tenant, deque()).append(item)

    def take(self, is_due: Callable[[T], bool] = lambda item: True) -> T | None:
        """The first thing that is due of the tenant whose turn it is, which is last in turn from now on; None: nothing is due."""
        for tenant, line in self._lines.items():
            found = next((item for item in line if is_due(item)), None)
            if found is not None:
                self._remove(tenant, found)
                if tenant in self._lines:
                    self._lines.move_to_end(tenant)
                return found
        return None

    def take_all(self, wanted: Callable[[T], bool] = lambda item: True) -> list[T]:
        """Take out everything of a kind."""
        found = [(tenant, item) for tenant, line in self._lines.items() for item in line if wanted(item)]
        for tenant, item in found:
            self._remove(tenant, item)
        return [item for _, item in found]

    def _remove(self, tenant: str, item: T) -> None:
        line = self._lines[tenant]
        for place, one in enumerate(line):
            if one is item:
                del line[place]
                break
        if not line:
            del self._lines[tenant]
