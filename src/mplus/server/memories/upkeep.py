"""What a server does with its memories on the side: saving what changed, closing what was not used for long. Knows no request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from mplus.errors import MPlusError
from mplus.server.memories.entry import Entry
from mplus.server.memories.write_keys import KEEP_KEYS_S, WRITE_KEY

if TYPE_CHECKING:
    from mplus.server.memories.registry import Registry

log = logging.getLogger(__name__)
SAVE_AFTER_S = 30.0
"""A memory whose journal has been the only place of a change for so long is saved."""
LARGE_JOURNAL_BYTES = 4 << 20
"""Or whose journal is as large as that."""
LOOK_S = 1.0


class Upkeep:
    """See the module."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._closing, self._wake = asyncio.Lock(), asyncio.Event()
        self._is_stopping = False
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End when what is being saved now is saved."""
        self._is_stopping = True
        self.wake()
        if self._running is not None:
            await self._running

    def wake(self) -> None:
        """Look soon whether there is something to close."""
        self._wake.set()

    async def make_room(self) -> None:
        """Save and close memories that were used longest ago, until the others fit the budget."""
        async with self._closing:
            while (entry := self._to_close()) is not None:
                entry.pins += 1  # nobody else closes it
                try:
                    async with entry.changing:
                        await self.save(entry)
                        if entry.pins == 1:
                            entry.drop()
                finally:
                    entry.pins -= 1

    async def save(self, entry: Entry) -> None:
        """Store what changed; where that cannot be done its journal has it. The caller holds ``changing``."""
        if entry.opened is None or entry.opened.dirty_since is None or entry.opened.damage:
            return
        try:
            await self._registry.save(entry)
        except (MPlusError, OSError) as error:
            log.error("a memory was not saved, its changes stay in the journal: %s", error)

    def _to_close(self) -> Entry | None:
        entries, budget = self._registry.catalogue.open, self._registry.settings.memory_budget
        for entry in entries:
            if entry.ram_bytes > budget and not entry.is_large:
                entry.is_large = True
                log.warning("one memory has %d bytes, the budget for all is %d; it is held alone", entry.ram_bytes, budget)
        if sum(entry.ram_bytes for entry in entries) <= budget or len(entries) < 2:
            return None
        idle = [entry for entry in entries if not entry.pins and not entry.changing.locked()]
        return min(idle, key=lambda entry: entry.last_used) if idle else None

    async def _run(self) -> None:
        """Open and save what a killed server has left in journals; then look again and again."""
        for scope in await asyncio.to_thread(self._registry.catalogue.with_journals):
            if self._is_stopping:
                return
            with contextlib.suppress(MPlusError):  # it was logged
                async with self._registry.changing(scope) as entry:
                    await self.save(entry)
        expired = float("-inf")
        while not self._is_stopping:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            self._wake.clear()
            try:
                await self._look()
                if time.monotonic() - expired > KEEP_KEYS_S / 24:
                    expired = time.monotonic()
                    await asyncio.to_thread(self._registry.index.expire, WRITE_KEY, time.time() - KEEP_KEYS_S)
            except Exception:
                log.exception("saving in the background failed; it goes on")

    async def _look(self) -> None:
        now = time.monotonic()
        for entry in self._registry.catalogue.open:
            opened = entry.opened
            if opened is None or opened.dirty_since is None or entry.changing.locked():
                continue
            if now - opened.dirty_since > SAVE_AFTER_S or opened.journal.size_bytes > LARGE_JOURNAL_BYTES:
                async with entry.changing:
                    await self.save(entry)
        await self.make_room()
