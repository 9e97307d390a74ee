"""The memories of a server in use: opened on demand, held while somebody needs them, stored. Knows no web framework.

Everything here runs on one event loop; what reads, writes or computes runs in other threads. Of one memory one change runs at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from filelock import FileLock

from mplus.errors import MPlusError
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.server.errors import QuotaError
from mplus.server.memories.catalogue import Catalogue
from mplus.server.memories.entry import Entry
from mplus.server.memories.home_lock import lock_home
from mplus.server.memories.index import Index
from mplus.server.memories.journal import Journal
from mplus.server.memories.opened import Opened, open_memory
from mplus.server.memories.place import MemoryRecord
from mplus.server.memories.upkeep import Upkeep
from mplus.server.memories.write_keys import key_entry
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText
from mplus.server.worker import Worker

T = TypeVar("T")
log = logging.getLogger(__name__)


class Registry:
    """See the module.

    Attributes:
        catalogue: which memories there are; index: ids and quotas.
    """

    def __init__(self, model: MPlusModel, settings: ServerSettings, index: Index, worker: Worker, lock: FileLock) -> None:
        self.model, self.settings, self.index, self._worker, self._lock = model, settings, index, worker, lock
        self.catalogue = Catalogue(settings.home, index)
        self._upkeep = Upkeep(self)
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def start(cls, model: MPlusModel, settings: ServerSettings, worker: Worker) -> Registry:
        """Take a home, finish what a killed server had begun to remove, and begin to save in the background.

        Raises:
            StoreError: another server has the home, or its index cannot be used.
        """
        lock = await asyncio.to_thread(lock_home, settings.home)
        try:
            index = await asyncio.to_thread(Index, settings.home / "index.sqlite")
            self = cls(model, settings, index, worker, lock)
            await asyncio.to_thread(self.catalogue.finish_removals)
        except BaseException:
            lock.release()
            raise
        self._upkeep.start()
        return self

    async def stop(self) -> None:
        """Wait for changes that run, save what changed and give the home back."""
        await self._upkeep.stop()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for entry in self.catalogue.open:
            async with entry.changing:
                await self._upkeep.save(entry)
                entry.drop()
        await asyncio.to_thread(self.index.close)
        self._lock.release()

    async def whole(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, whether or not the caller still waits: half a change would be two writers of one journal."""
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
        return await asyncio.shield(task)

    # -- use -------------------------------------------------------------------------------------------------------

    async def acquire(self, scope: Scope, *, create: bool = False) -> Entry:
        """An open memory that stays open until ``release``.

        Raises:
            UnknownMemoryError: there is none.
            SnapshotError: it cannot be opened.
        """
        while True:
            entry = await (self.catalogue.entry_or_new(scope) if create else self.catalogue.entry(scope))
            entry.pins += 1
            entry.last_used = time.time()
            try:
                if entry.opened is None:
                    await self.whole(self._open(entry))
                    await self.make_room()
            except BaseException:
                entry.pins -= 1
                raise
            if entry.opened is not None:
                return entry
            entry.pins -= 1  # it was deleted while we waited

    def release(self, entry: Entry) -> None:
        """Say that a memory is not used any more."""
        entry.pins -= 1
        entry.last_used = time.time()
        if not entry.pins:
            self._upkeep.wake()

    @asynccontextmanager
    async def using(self, scope: Scope) -> AsyncIterator[Entry]:
        """An open memory for a block."""
        entry = await self.acquire(scope)
        try:
            yield entry
        finally:
            self.release(entry)

    @asynccontextmanager
    async def changing(self, scope: Scope, *, create: bool = False) -> AsyncIterator[Entry]:
        """An open memory that nobody else changes for a block.

        Raises:
            UnknownMemoryError, SnapshotError: see ``acquire``; or its journal is damaged, so that it takes no changes.
        """
        while True:
            entry = await self.acquire(scope, create=create)
            try:
                async with entry.changing:
                    if entry.is_gone or entry.opened is None:  # deleted, or to be opened again, while we waited
                        continue
                    entry.opened.refuse_damaged()
                    yield entry
                    return
            finally:
                self.release(entry)

    async def make_room(self) -> None:
        """Close memories until the others fit the budget."""
        await self.whole(self._upkeep.make_room())

    # -- bytes -----------------------------------------------------------------------------------------------------

    async def stored_bytes(self, tenant: str) -> int:
        """Bytes that a tenant's memories have."""
        return sum(entry.bytes for entry in await self.catalogue.entries(tenant))

    async def check_quota(self, tenant: str, more_bytes: int) -> None:
        """Do nothing if a tenant may store so many bytes more.

        Raises:
            QuotaError: it may not.
        """
        quota = self.index.quota(tenant)
        limit = self.settings.tenant_bytes if quota is None else quota
        if limit is None:
            return
        used = await self.stored_bytes(tenant)
        if used + more_bytes > limit:
            raise QuotaError(
                f"this needs {more_bytes:,} bytes and {used:,} of the {limit:,} bytes that may be stored are used; delete memories or "
                "sources, or ask the operator for a larger quota"
            )

    # -- to the disk -----------------------------------------------------------------------------------------------

    async def save(self, entry: Entry) -> None:
        """Store a memory; the caller holds ``changing``.

        Raises:
            SnapshotError: it cannot be stored; its journal has every change.
        """
        opened = _opened_of(entry)
        try:
            entry.record = await asyncio.to_thread(opened.save, _used(entry))
        except MPlusError:
            if not await asyncio.to_thread(
                opened.is_ours
            ):  # somebody else stored it: to be opened again, with the journal on top
                entry.drop()
            raise

    async def save_without_traces(self, entry: Entry, memory: Memory) -> None:
        """Store another value in place of a memory's, and nothing of what it does not have; the caller holds ``changing``.

        Raises:
            SnapshotError: it cannot be stored; the memory is as it was, or as it was to be.
        """
        opened = _opened_of(entry)
        try:
            entry.record = await asyncio.to_thread(opened.save_without_traces, memory, _used(entry), self.model)
        except BaseException:
            entry.drop()  # what is stored says which of both it is
            raise

    def mistrust(self, entry: Entry, journal: Journal) -> None:
        """Open a memory again whose journal may not be on the disk: what is read then is what is acknowledged from now on."""
        if entry.opened is not None and entry.opened.journal is journal:
            entry.drop()

    async def _open(self, entry: Entry) -> None:
        """Open a memory, unless it is open or gone by the time it is our turn."""
        async with entry.changing:
            if entry.opened is None and not entry.is_gone:
                entry.opened = await self._opened(entry)

    async def _opened(self, entry: Entry) -> Opened:
        def write(
            memory: Memory, texts: Sequence[SourceText]
        ) -> None:  # in the thread that opens: it waits for the one that computes
            self._worker.write(entry.scope.tenant, memory, texts).result()

        try:
            opened = await asyncio.to_thread(open_memory, entry.place, self.model, write)
        except MPlusError as error:
            log.error("a memory cannot be opened: %s", error)
            raise
        if opened.keys:
            await asyncio.to_thread(self.index.put_all, [key_entry(entry.scope, record) for record in opened.keys])
            opened.keys = []
        return opened


def _opened_of(entry: Entry) -> Opened:
    assert entry.opened is not None
    return entry.opened


def _used(entry: Entry) -> MemoryRecord:
    """The record with the time of the last use."""
    return replace(entry.record, last_used_at=entry.last_used)
