"""All memories of a server: which there are, which are open, who uses them. Loads on demand, saves and closes by a budget.

Knows the disk through ``Opened`` and ``Place``, the model through the worker, and no web framework.
Everything here runs on one event loop; what reads, writes or computes runs in other threads. Of one memory one change runs at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from filelock import FileLock

from mplus.errors import MPlusError, SnapshotError
from mplus.memory.memory import Memory
from mplus.model import MPlusModel
from mplus.server.errors import ConflictError, QuotaError, UnknownMemoryError
from mplus.server.memories.home_lock import lock_home
from mplus.server.memories.index import Index, IndexEntry
from mplus.server.memories.journal import Journal, read_journal
from mplus.server.memories.opened import Opened, open_memory
from mplus.server.memories.place import JOURNALS, RECORDS, Place, StoredRecord, all_files, read_record, records_in
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText
from mplus.server.worker import Worker

T = TypeVar("T")
log = logging.getLogger(__name__)
SAVE_AFTER_S = 30.0
"""A memory whose journal has been the only place of a change for so long is saved."""
LARGE_JOURNAL_BYTES = 4 << 20
"""Or whose journal is as large as that."""
LOOK_S = 1.0
KEEP_KEYS_S = 24 * 3600.0
WRITE_KEY = "write_key"
"""Kind of the index' entries that keep what a write under an ``Idempotency-Key`` gave."""


@dataclass(eq=False)
class Entry:
    """One memory that there is.

    Attributes:
        changing: held by who changes, opens, saves or closes it.
        pins: how many use it now.
        is_gone: it was deleted; who waited for it looks again.
    """

    scope: Scope
    place: Place
    record: StoredRecord
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    opened: Opened | None = None
    pins: int = 0
    last_used: float = field(default_factory=time.time)
    is_gone: bool = False
    is_large: bool = False

    @property
    def memory(self) -> Memory:
        """Its value now; it is open."""
        assert self.opened is not None
        return self.opened.memory

    @property
    def bytes(self) -> int:
        """Bytes that it counts for its tenant: of its files, or of its rows where they are more, and of its journal."""
        if self.opened is None:
            return self.record.bytes
        return max(self.record.bytes, self.opened.ram_bytes) + self.opened.journal.size_bytes


class Registry:
    """See the module."""

    def __init__(self, model: MPlusModel, settings: ServerSettings, index: Index, worker: Worker, lock: FileLock) -> None:
        self.model, self.settings, self.index, self._worker, self._lock = model, settings, index, worker, lock
        self._tenants: dict[str, dict[str, Entry]] = {}
        self._reading, self._closing = asyncio.Lock(), asyncio.Lock()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tending: asyncio.Task[None] | None = None
        self._is_stopping = False

    @classmethod
    async def start(cls, model: MPlusModel, settings: ServerSettings, worker: Worker) -> Registry:
        """Take a home, finish what a killed server had begun to remove, and begin to save in the background.

        Raises:
            StoreError: another server has the home, or its index cannot be used.
        """
        lock = await asyncio.to_thread(lock_home, settings.home)
        try:
            index = await asyncio.to_thread(Index, settings.home / "index.sqlite")
        except BaseException:
            lock.release()
            raise
        self = cls(model, settings, index, worker, lock)
        await asyncio.to_thread(self._finish_removals)
        self._tending = asyncio.create_task(self._tend())
        return self

    async def stop(self) -> None:
        """Save what changed and give the home back."""
        self._is_stopping = True
        self._wake.set()
        if self._tending is not None:
            await self._tending
        while self._tasks:
            await asyncio.wait(self._tasks)
        for entry in self._open_entries():
            async with entry.changing:
                await self._save(entry)
                self._drop(entry)
        await asyncio.to_thread(self.index.close)
        self._lock.release()

    async def whole(self, doing: Coroutine[Any, Any, T]) -> T:
        """Do something to its end, whether or not the caller still waits: half a change would be two writers of one journal."""
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
        return await asyncio.shield(task)

    # -- which there are -------------------------------------------------------------------------------------------

    async def entries(self, tenant: str) -> list[Entry]:
        """All memories of a tenant, by id."""
        table = await self._table(tenant)
        return [table[name] for name in sorted(table)]

    async def entry(self, scope: Scope) -> Entry:
        """One memory.

        Raises:
            UnknownMemoryError: the tenant has none of that id.
            SnapshotError: its record is damaged.
        """
        table = await self._table(scope.tenant)
        while (found := table.get(scope.memory)) is not None and found.is_gone:
            async with found.changing:  # it is being removed
                pass
        if found is None:
            if await asyncio.to_thread(Place(self.settings.home, scope).record.exists):
                raise SnapshotError(f"the record of memory {scope.memory!r} cannot be read; restore it from a backup")
            raise unknown(scope)
        return found

    async def create(self, scope: Scope, metadata: Mapping[str, Any]) -> Entry:
        """Make an empty memory.

        Raises:
            ConflictError: there is one of that id.
        """
        with contextlib.suppress(UnknownMemoryError):
            await self.entry(scope)
            raise taken(scope)
        entry = self._entered(scope, metadata)
        async with entry.changing:
            await self._or_none(entry, asyncio.to_thread(entry.place.write, entry.record))
        return entry

    @asynccontextmanager
    async def making(self, scope: Scope, metadata: Mapping[str, Any]) -> AsyncIterator[Entry]:
        """A memory that a block fills; it exists when the block has ended, and nothing of it stays where that fails.

        Raises:
            ConflictError: there is one of that id.
        """
        with contextlib.suppress(UnknownMemoryError):
            await self.entry(scope)
            raise taken(scope)
        entry = self._entered(scope, metadata)
        async with entry.changing:
            try:
                await asyncio.to_thread(entry.place.begin, entry.record)
                yield entry
                await asyncio.to_thread(entry.place.finish)
            except BaseException:
                entry.is_gone = True
                try:
                    await asyncio.to_thread(entry.place.remove)
                finally:
                    self._forget(entry)
                raise

    async def set_record(self, entry: Entry, record: StoredRecord) -> None:
        """Keep another record; the caller holds ``changing``."""
        await asyncio.to_thread(entry.place.write, record)
        entry.record = record

    async def delete(self, scope: Scope) -> None:
        """Remove a memory with its journal and its ids; a write that runs ends without effect.

        Raises:
            UnknownMemoryError: there is none.
        """
        entry = await self._any_entry(scope)
        entry.is_gone = True  # whoever writes now stops, and whoever waits looks again
        async with entry.changing:
            if self._tenants[scope.tenant].get(scope.memory) is not entry:
                raise unknown(scope)
            self._drop(entry)
            try:
                await asyncio.to_thread(entry.place.remove)
            except OSError as error:
                raise SnapshotError(f"not all of {entry.place.directory} could be removed ({error}); look at the disk") from None
            finally:
                if entry.place.record.exists():
                    entry.is_gone = False
                else:
                    self._forget(entry)
            await asyncio.to_thread(self.index.delete_memory, scope.tenant, scope.memory)

    # -- use -------------------------------------------------------------------------------------------------------

    async def acquire(self, scope: Scope, *, create: bool = False) -> Entry:
        """An open memory that stays open until ``release``.

        Raises:
            UnknownMemoryError: there is none.
            SnapshotError: it cannot be opened.
        """
        while True:
            entry = await self._made(scope) if create else await self.entry(scope)
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
            self._wake.set()

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

    # -- bytes -----------------------------------------------------------------------------------------------------

    async def stored_bytes(self, tenant: str) -> int:
        """Bytes that a tenant's memories have."""
        return sum(entry.bytes for entry in await self.entries(tenant))

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

    async def make_room(self) -> None:
        """Save and close memories that were used longest ago, until the others fit the budget."""
        await self.whole(self._make_room())

    async def _make_room(self) -> None:
        async with self._closing:
            while (entry := self._to_close()) is not None:
                entry.pins += 1  # nobody else closes it
                try:
                    async with entry.changing:
                        await self._save(entry)
                        if entry.pins == 1:
                            self._drop(entry)
                finally:
                    entry.pins -= 1

    def _to_close(self) -> Entry | None:
        entries = self._open_entries()
        held = {entry: entry.opened.ram_bytes for entry in entries if entry.opened is not None}
        for entry, size_bytes in held.items():
            if size_bytes > self.settings.memory_budget and not entry.is_large:
                entry.is_large = True
                log.warning(
                    "one memory has %d bytes, more than the budget of %d; it is held alone",
                    size_bytes,
                    self.settings.memory_budget,
                )
        if sum(held.values()) <= self.settings.memory_budget:
            return None
        idle = [entry for entry in entries if not entry.pins and not entry.changing.locked()]
        return min(idle, key=lambda entry: entry.last_used) if idle and len(entries) > 1 else None

    # -- to the disk -----------------------------------------------------------------------------------------------

    async def save(self, entry: Entry) -> None:
        """Store a memory; the caller holds ``changing``.

        Raises:
            SnapshotError: it cannot be stored; its journal has every change.
        """
        opened = entry.opened
        assert opened is not None
        try:
            entry.record = await asyncio.to_thread(opened.save, self.used(entry))
        except MPlusError:
            if not await asyncio.to_thread(
                opened.is_ours
            ):  # somebody else stored it: to be opened again, with the journal on top
                self._drop(entry)
            raise

    async def save_without_traces(self, entry: Entry, memory: Memory) -> None:
        """Store another value in place of a memory's, and nothing of what it does not have; the caller holds ``changing``.

        Raises:
            SnapshotError: it cannot be stored; the memory is as it was, or as it was to be.
        """
        opened = entry.opened
        assert opened is not None
        try:
            entry.record = await asyncio.to_thread(opened.save_without_traces, memory, self.used(entry), self.model)
        except BaseException:
            self._drop(entry)  # what is stored says which of both it is
            raise

    def mistrust(self, entry: Entry, journal: Journal) -> None:
        """Open a memory again whose journal may not be on the disk: what is read then is what is acknowledged from now on."""
        if entry.opened is not None and entry.opened.journal is journal:
            self._drop(entry)

    def used(self, entry: Entry) -> StoredRecord:
        """The record with the time of the last use."""
        return replace(entry.record, last_used_at=entry.last_used)

    async def _save(self, entry: Entry) -> None:
        """Store what changed; where that cannot be done its journal has it."""
        if entry.opened is None or entry.opened.dirty_since is None or entry.opened.damage:
            return
        try:
            await self.save(entry)
        except (MPlusError, OSError) as error:
            log.error("memory not saved, its changes stay in the journal: %s", error)

    def _drop(self, entry: Entry) -> None:
        if entry.opened is not None:
            entry.opened.journal.close()
            entry.opened = None

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

    async def _tend(self) -> None:
        """Open and save what a killed server has left in journals; then save what has changed for a while, for ever."""
        for scope in await asyncio.to_thread(self._with_journals):
            if self._is_stopping:
                return
            with contextlib.suppress(MPlusError):  # it was logged
                async with self.changing(scope) as entry:
                    await self._save(entry)
        expired = 0.0
        while not self._is_stopping:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            self._wake.clear()
            try:
                await self._look()
                if time.monotonic() - expired > KEEP_KEYS_S / 24:
                    expired = time.monotonic()
                    await asyncio.to_thread(self.index.expire, WRITE_KEY, time.time() - KEEP_KEYS_S)
            except Exception:
                log.exception("saving in the background failed; it goes on")

    async def _look(self) -> None:
        now = time.monotonic()
        for entry in self._open_entries():
            opened = entry.opened
            if opened is None or opened.dirty_since is None or entry.changing.locked():
                continue
            if now - opened.dirty_since > SAVE_AFTER_S or opened.journal.size_bytes > LARGE_JOURNAL_BYTES:
                async with entry.changing:
                    await self._save(entry)
        await self.make_room()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _open_entries(self) -> list[Entry]:
        return [entry for table in self._tenants.values() for entry in table.values() if entry.opened is not None]

    def _entered(self, scope: Scope, metadata: Mapping[str, Any]) -> Entry:
        """A new entry, unless somebody was faster."""
        table = self._tenants[scope.tenant]
        if scope.memory in table:
            raise taken(scope)
        record = StoredRecord(tenant=scope.tenant, id=scope.memory, created_at=time.time(), metadata=dict(metadata))
        entry = table[scope.memory] = Entry(scope, Place(self.settings.home, scope), record)
        return entry

    async def _or_none(self, entry: Entry, doing: Awaitable[None]) -> None:
        """Do it, or forget the entry that was made for it."""
        try:
            await doing
        except BaseException:
            self._forget(entry)
            raise

    def _forget(self, entry: Entry) -> None:
        entry.is_gone = True
        table = self._tenants[entry.scope.tenant]
        if table.get(entry.scope.memory) is entry:
            del table[entry.scope.memory]

    async def _made(self, scope: Scope) -> Entry:
        """The memory of a scope, made where there is none."""
        while True:
            try:
                return await self.entry(scope)
            except UnknownMemoryError:
                with contextlib.suppress(ConflictError):
                    return await self.create(scope, {})

    async def _any_entry(self, scope: Scope) -> Entry:
        """The memory of a scope, one whose record is damaged too."""
        try:
            return await self.entry(scope)
        except SnapshotError:
            return self._entered(scope, {})

    async def _table(self, tenant: str) -> dict[str, Entry]:
        if tenant not in self._tenants:
            async with self._reading:
                if tenant not in self._tenants:
                    found = await asyncio.to_thread(self._read_tenant, tenant)
                    self._tenants[tenant] = found
        return self._tenants[tenant]

    def _read_tenant(self, tenant: str) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for path in records_in(self.settings.home, tenant):
            try:
                record = read_record(path)
                scope = Scope(record.tenant, record.id)
                place = Place(self.settings.home, scope)
                found[record.id] = Entry(scope, place, _with_journal(record, place), last_used=record.last_used_at)
            except SnapshotError as error:
                log.error("a memory is left out: %s", error)
        return found

    def _with_journals(self) -> list[Scope]:
        """Memories that a killed server has left with a journal."""
        found = []
        for path in all_files(self.settings.home, JOURNALS, ".journal"):
            try:
                record = read_record(path.parents[1] / RECORDS / f"{path.stem}.json")
                found.append(Scope(record.tenant, record.id))
            except SnapshotError as error:
                log.error("the journal %s stays unread: %s", path, error)
        return found

    def _finish_removals(self) -> None:
        for path in all_files(self.settings.home, RECORDS, ".removed"):
            try:
                record = read_record(path)
                scope = Scope(record.tenant, record.id)
                Place(self.settings.home, scope).remove()
                self.index.delete_memory(scope.tenant, scope.memory)
            except (MPlusError, OSError) as error:
                log.error("what a killed server had begun to remove stays: %s", error)


def _with_journal(record: StoredRecord, place: Place) -> StoredRecord:
    """A record with the counts of the journal's last line, and the bytes of all files."""
    lines = [line for line in read_journal(place.journal).records if "tokens" in line] if place.journal.exists() else []
    last = lines[-1] if lines else {"tokens": record.tokens, "sources": record.sources}
    return replace(record, tokens=int(last["tokens"]), sources=int(last["sources"]), bytes=place.size_bytes())


def key_entry(scope: Scope, record: Mapping[str, Any]) -> IndexEntry:
    """What the index keeps of a write under a key."""
    return IndexEntry(
        tenant=scope.tenant,
        kind=WRITE_KEY,
        id=record["key"],
        memory=scope.memory,
        source=record["texts"][0][0],
        data={"result": record["result"], "of": record["of"]},
    )


def unknown(scope: Scope) -> UnknownMemoryError:
    """The one sentence for a memory that is not there, or not this tenant's."""
    return UnknownMemoryError(f"there is no memory {scope.memory!r}; create it, or GET /v1/memories for those there are")


def taken(scope: Scope) -> ConflictError:
    """The sentence for an id that is in use."""
    return ConflictError(f"memory {scope.memory!r} exists already; choose another id, or delete it first")
