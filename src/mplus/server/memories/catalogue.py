"""Which memories there are: records of each tenant, read when the tenant comes first. Opens none; knows no model.

Runs on one event loop; what reads or writes files runs in other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mplus.errors import MPlusError, SnapshotError
from mplus.server.errors import ConflictError, UnknownMemoryError
from mplus.server.memories.entry import Entry, taken, unknown
from mplus.server.memories.index import Index
from mplus.server.memories.journal import read_journal
from mplus.server.memories.place import JOURNALS, RECORDS, MemoryRecord, Place, all_files, read_record, records_in
from mplus.server.scope import Scope

log = logging.getLogger(__name__)


class Catalogue:
    """See the module."""

    def __init__(self, home: Path, index: Index) -> None:
        self._home, self._index = home, index
        self._tenants: dict[str, dict[str, Entry]] = {}
        self._reading = asyncio.Lock()

    @property
    def known(self) -> list[Entry]:
        """All memories of tenants that came."""
        return [entry for table in list(self._tenants.values()) for entry in list(table.values())]

    @property
    def open(self) -> list[Entry]:
        """Those that are open."""
        return [entry for entry in self.known if entry.opened is not None]

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
        while True:
            found = table.get(scope.memory)
            if found is None:
                is_there = await asyncio.to_thread(Place(self._home, scope).record.exists)
                if scope.memory in table:  # it was made meanwhile
                    continue
                if is_there:
                    raise SnapshotError(f"the record of memory {scope.memory!r} cannot be read; restore it from a backup")
                raise unknown(scope)
            if not found.is_gone:
                return found
            async with found.changing:  # it is being removed
                pass

    async def entry_or_new(self, scope: Scope) -> Entry:
        """One memory, made where there is none."""
        while True:
            try:
                return await self.entry(scope)
            except UnknownMemoryError:
                with contextlib.suppress(ConflictError):
                    return await self.create(scope, {})

    async def create(self, scope: Scope, metadata: Mapping[str, Any]) -> Entry:
        """Make an empty memory.

        Raises:
            ConflictError: there is one of that id.
        """
        entry = await self._entered(scope, metadata)
        async with entry.changing:
            try:
                await asyncio.to_thread(entry.place.write, entry.record)
            except BaseException:
                self._forget(entry)
                raise
        return entry

    @asynccontextmanager
    async def making(self, scope: Scope, metadata: Mapping[str, Any]) -> AsyncIterator[Entry]:
        """A memory that a block fills; it exists when the block has ended, and nothing of it stays where that fails.

        Raises:
            ConflictError: there is one of that id.
        """
        entry = await self._entered(scope, metadata)
        async with entry.changing:
            try:
                await asyncio.to_thread(entry.place.begin, entry.record)
                yield entry
                await asyncio.to_thread(entry.place.finish, entry.record)
            except BaseException:
                entry.is_gone = True
                try:
                    await asyncio.to_thread(entry.place.remove)
                finally:
                    self._forget(entry)
                raise

    async def set_metadata(self, scope: Scope, metadata: Mapping[str, Any]) -> Entry:
        """Give a memory other metadata.

        Raises:
            UnknownMemoryError: there is none.
        """
        entry = await self.entry(scope)
        async with entry.changing:
            if entry.is_gone:
                raise unknown(scope)
            record = replace(entry.record, metadata=dict(metadata))
            await asyncio.to_thread(entry.place.write, record)
            entry.record = record
        return entry

    async def delete(self, scope: Scope) -> None:
        """Remove a memory with its journal and its ids; a write that runs ends without effect.

        Raises:
            UnknownMemoryError: there is none.
        """
        entry = await self._entry_or_damaged(scope)
        entry.is_gone = True  # whoever writes now stops, and whoever waits looks again
        async with entry.changing:
            if self._tenants[scope.tenant].get(scope.memory) is not entry:
                raise unknown(scope)
            entry.drop()
            try:
                await asyncio.to_thread(entry.place.remove)
            except OSError as error:
                raise SnapshotError(f"not all of {entry.place.directory} could be removed ({error}); look at the disk") from None
            finally:
                if entry.place.record.exists():
                    entry.is_gone = False
                else:
                    self._forget(entry)
            await asyncio.to_thread(self._index.delete_memory, scope.tenant, scope.memory)

    # -- what a killed server has left -------------------------------------------------------------------------------

    def finish_removals(self) -> None:
        """Remove memories that were being made or removed."""
        for path in all_files(self._home, RECORDS, ".removed"):
            try:
                record = read_record(path)
                scope = Scope(record.tenant, record.id)
                Place(self._home, scope).remove()
                self._index.delete_memory(scope.tenant, scope.memory)
            except (MPlusError, OSError) as error:
                log.error("what a killed server had begun to remove stays: %s", error)

    def with_journals(self) -> list[Scope]:
        """Memories with changes that were not saved."""
        found = []
        for path in all_files(self._home, JOURNALS, ".journal"):
            try:
                record = read_record(path.parents[1] / RECORDS / f"{path.stem}.json")
                found.append(Scope(record.tenant, record.id))
            except SnapshotError as error:
                log.error("the journal %s stays unread: %s", path, error)
        return found

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _entered(self, scope: Scope, metadata: Mapping[str, Any]) -> Entry:
        """A new entry.

        Raises:
            ConflictError: there is one of that id.
        """
        with contextlib.suppress(UnknownMemoryError):
            await self.entry(scope)
            raise taken(scope)
        return self._put(scope, metadata)

    def _put(self, scope: Scope, metadata: Mapping[str, Any]) -> Entry:
        table = self._tenants[scope.tenant]
        if scope.memory in table:  # somebody was faster
            raise taken(scope)
        record = MemoryRecord(tenant=scope.tenant, id=scope.memory, created_at=time.time(), metadata=dict(metadata))
        entry = table[scope.memory] = Entry(scope, Place(self._home, scope), record)
        return entry

    async def _entry_or_damaged(self, scope: Scope) -> Entry:
        try:
            return await self.entry(scope)
        except SnapshotError:
            return self._put(scope, {})

    def _forget(self, entry: Entry) -> None:
        entry.is_gone = True
        table = self._tenants[entry.scope.tenant]
        if table.get(entry.scope.memory) is entry:
            del table[entry.scope.memory]

    async def _table(self, tenant: str) -> dict[str, Entry]:
        if tenant not in self._tenants:
            async with self._reading:
                if tenant not in self._tenants:
                    self._tenants[tenant] = await asyncio.to_thread(self._read, tenant)
        return self._tenants[tenant]

    def _read(self, tenant: str) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for path in records_in(self._home, tenant):
            try:
                record = read_record(path)
                scope = Scope(record.tenant, record.id)
                place = Place(self._home, scope)
                found[record.id] = Entry(scope, place, _with_journal(record, place), last_used=record.last_used_at)
            except SnapshotError as error:
                log.error("a memory is left out: %s", error)
        return found


def _with_journal(record: MemoryRecord, place: Place) -> MemoryRecord:
    """A record with the counts of the journal's last line, and the bytes of all files."""
    lines = [line for line in read_journal(place.journal).records if "tokens" in line] if place.journal.exists() else []
    last = lines[-1] if lines else {"tokens": record.tokens, "sources": record.sources}
    return replace(record, tokens=int(last["tokens"]), sources=int(last["sources"]), bytes=place.size_bytes())
