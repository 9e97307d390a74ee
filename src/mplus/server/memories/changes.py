"""Changes of a server's memories, each whole and on the disk when its method returns. Knows no web framework.

Of one memory one change runs at a time, whoever asked for it; what a client no longer waits for ends all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mplus.errors import EmptyTextError, InputError, MPlusError, StoreError
from mplus.memory.arguments import checked_source, checked_text
from mplus.memory.memory import Memory
from mplus.memory.portable import export_memory, import_memory
from mplus.memory.reports import ForgetReport, MergeReport
from mplus.memory.selection import Where, chosen, seconds_of
from mplus.memory.sources import source_infos
from mplus.model import MPlusModel
from mplus.runtime.folder import file_bytes
from mplus.server.errors import BadRequestError, UnknownSourceError
from mplus.server.memories.entry import Entry, unknown
from mplus.server.memories.index import IndexEntry
from mplus.server.memories.journal import Journal
from mplus.server.memories.opened import counted, entry_of, refuse_encrypted, tokens_of
from mplus.server.memories.place import checked_json
from mplus.server.memories.registry import Registry
from mplus.server.memories.write_keys import WriteKey, key_entry
from mplus.server.scope import Scope
from mplus.server.texts import SourceText
from mplus.server.worker import Worker

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """What was written.

    Attributes:
        tokens: of this text; total_tokens: of the memory.
    """

    source: str
    tokens: int
    total_tokens: int


class Changes:
    """See the module."""

    def __init__(self, registry: Registry, worker: Worker) -> None:
        self._registry, self._worker = registry, worker

    # -- writing ---------------------------------------------------------------------------------------------------

    async def write(
        self,
        scope: Scope,
        texts: Sequence[SourceText],
        *,
        key: str | None = None,
        create: bool = True,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[WriteResult]:
        """See ``Engine.write`` and ``Engine.write_all``."""
        checked = [_checked(one) for one in texts]
        if not checked:
            raise InputError("there are no texts to write; give at least one")
        once = None if key is None else WriteKey(scope, key, checked[0])
        is_left = False

        def is_cancelled(entry: Entry) -> bool:
            return is_left or entry.is_gone or (cancelled is not None and cancelled())

        await self._registry.check_quota(scope.tenant, 1)  # before a memory is made for it
        doing = self._written(scope, checked, once, create, progress, is_cancelled)
        try:
            return await self._registry.whole(doing)
        except asyncio.CancelledError:
            is_left = True  # nobody waits for it: it need not be written to the end
            raise

    async def _written(
        self,
        scope: Scope,
        texts: list[SourceText],
        once: WriteKey | None,
        create: bool,
        progress: Callable[[int], None] | None,
        cancelled: Callable[[Entry], bool],
    ) -> list[WriteResult]:
        async with self._registry.changing(scope, create=create) as entry:
            if once is not None and (known := await asyncio.to_thread(once.result, self._registry.index)) is not None:
                return [WriteResult(source=texts[0].source, tokens=known[0], total_tokens=known[1])]
            opened = entry.opened
            assert opened is not None
            twin = await asyncio.to_thread(opened.memory.fork)
            try:
                counts = await asyncio.wrap_future(
                    self._worker.write(scope.tenant, twin, texts, progress=progress, cancelled=lambda: cancelled(entry))
                )
            except InputError:
                if entry.is_gone:
                    raise unknown(scope) from None
                raise
            for one in texts:
                if one.note is not None:
                    twin.note(one.source, one.note)
            await self._registry.check_quota(scope.tenant, twin.stats().size_bytes - opened.ram_bytes)
            total = tokens_of(twin)
            results = [
                WriteResult(source=one.source, tokens=count, total_tokens=total) for one, count in zip(texts, counts, strict=True)
            ]
            change: dict[str, Any] = {"texts": [entry_of(one.source, one.text, seconds_of(one.at), one.note) for one in texts]}
            if once is not None:
                change |= once.line(counts[0], total)
            place = await asyncio.to_thread(opened.commit, twin, change)
            if once is not None:
                await self._note_key(entry, place, key_entry(scope, change))
        await self._on_disk(entry, opened.journal, place)
        await self._registry.make_room()
        return results

    async def note(self, scope: Scope, source: str, note: Mapping[str, Any]) -> None:
        """See ``Engine.note``."""
        kept = checked_json(note, "the note")

        async def change() -> None:
            async with self._registry.changing(scope) as entry:
                opened = entry.opened
                assert opened is not None
                check_sources(opened.memory, [source])
                twin = await asyncio.to_thread(opened.memory.fork)
                twin.note(source, kept)
                place = await asyncio.to_thread(opened.commit, twin, {"texts": [entry_of(source, None, None, kept)]})
            await self._on_disk(entry, opened.journal, place)

        await self._registry.whole(change())

    async def _note_key(self, entry: Entry, place: int, known: IndexEntry) -> None:
        """Put the key of a write into the index, once the write is on the disk: a client that sends it again gets the same result."""
        opened = entry.opened
        assert opened is not None
        try:
            await asyncio.to_thread(opened.journal.sync, place)
            await asyncio.to_thread(self._registry.index.put, known)
        except StoreError:
            self._registry.mistrust(entry, opened.journal)  # when it is opened again, its journal says what the index lacks
            raise

    async def _on_disk(self, entry: Entry, journal: Journal, place: int) -> None:
        """Wait for a line of the journal, outside of ``changing``: those that wait together share one flush."""
        try:
            await asyncio.to_thread(journal.sync, place)
        except StoreError:
            self._registry.mistrust(entry, journal)
            raise

    # -- forgetting, correcting ------------------------------------------------------------------------------------

    async def forget(self, scope: Scope, sources: Sequence[str] | None, where: Where | None) -> ForgetReport:
        """See ``Engine.forget``."""

        async def change() -> ForgetReport:
            async with self._registry.changing(scope) as entry:
                names = check_sources(entry.memory, sources) if where is None else _chosen(entry.memory, where)
                twin = await asyncio.to_thread(entry.memory.fork)
                report = await self._computed(scope, [twin], lambda: twin.forget(names))
                await self._registry.save_without_traces(entry, twin)
                await asyncio.to_thread(self._registry.index.delete_source, scope.tenant, scope.memory, names)
            return replace(report, shared_with=[])  # they may be other tenants'

        return await self._registry.whole(change())

    async def replace(
        self,
        scope: Scope,
        text: SourceText,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ForgetReport:
        """See ``Engine.replace``."""
        new = _checked(text)

        def is_cancelled(entry: Entry) -> bool:
            return entry.is_gone or (cancelled is not None and cancelled())

        async def change() -> ForgetReport:
            async with self._registry.changing(scope) as entry:
                opened = entry.opened
                assert opened is not None
                check_sources(opened.memory, [new.source])
                note = new.note if new.note is not None else opened.memory.notes.get(new.source)
                twin = await asyncio.to_thread(opened.memory.fork)
                report = await self._computed(scope, [twin], lambda: twin.forget([new.source]))
                await asyncio.wrap_future(
                    self._worker.write(scope.tenant, twin, [new], progress=progress, cancelled=lambda: is_cancelled(entry))
                )
                if note is not None:
                    twin.note(new.source, note)
                await self._registry.check_quota(scope.tenant, max(0, twin.stats().size_bytes - opened.ram_bytes))
                await self._registry.save_without_traces(entry, twin)
            return replace(report, shared_with=[])

        return await self._registry.whole(change())

    async def _computed(self, scope: Scope, memories: Sequence[Memory], function: Callable[[], T]) -> T:
        """What a function gives where the model computes."""
        return await asyncio.wrap_future(self._worker.change(scope.tenant, memories, function))

    # -- whole memories --------------------------------------------------------------------------------------------

    async def merge(self, scope: Scope, other: Scope, prefix: str) -> MergeReport:
        """See ``Engine.merge``."""
        if other.tenant != scope.tenant:
            raise unknown(other)
        if other == scope:
            raise BadRequestError("a memory cannot be merged with itself; name another one")
        if not isinstance(prefix, str):
            raise BadRequestError(f"prefix is a {type(prefix).__name__}, expected a string")

        async def change() -> MergeReport:
            async with self._registry.using(other) as second, self._registry.changing(scope) as entry:
                theirs = second.memory  # raises where it was deleted meanwhile
                opened = entry.opened
                assert opened is not None
                twin = await asyncio.to_thread(opened.memory.fork)
                report = await self._computed(scope, [twin, theirs], lambda: _merged(twin, theirs, prefix))
                await self._registry.check_quota(scope.tenant, max(0, twin.stats().size_bytes - opened.ram_bytes))
                before, opened.memory = opened.memory, twin
                try:
                    await self._registry.save(entry)
                except BaseException:
                    opened.memory = before
                    raise
            return report

        report = await self._registry.whole(change())
        await self._registry.make_room()
        return report

    async def fork(self, scope: Scope, new: Scope) -> Entry:
        """See ``Engine.fork``."""
        if new.tenant != scope.tenant:
            raise unknown(new)

        async def change() -> Entry:
            async with self._registry.changing(scope) as entry:
                await self._registry.check_quota(scope.tenant, entry.bytes)
                await self._saved(entry)
                async with self._registry.catalogue.making(new, entry.record.metadata) as made:
                    twin = await asyncio.to_thread(entry.memory.fork)
                    await asyncio.to_thread(twin.save, made.place.directory)
                    made.record = counted(made.record, twin, made.place.size_bytes())
                return made

        return await self._registry.whole(change())

    async def export(self, scope: Scope, path: Path) -> None:
        """See ``Engine.export``."""

        async def change() -> None:
            async with self._registry.changing(scope) as entry:
                await self._saved(entry)
                await asyncio.to_thread(export_memory, entry.place.directory, path)

        await self._registry.whole(change())

    async def import_(self, scope: Scope, path: Path) -> Entry:
        """See ``Engine.import_``."""

        async def change() -> Entry:
            await self._registry.check_quota(scope.tenant, await asyncio.to_thread(file_bytes, path))
            async with self._registry.catalogue.making(scope, {}) as made:
                directory = made.place.directory
                try:
                    await asyncio.to_thread(import_memory, path, directory)
                    memory = await asyncio.to_thread(opened_archive, directory, self._registry.model)
                except MPlusError as error:
                    said = str(error).replace(str(path), "the archive").replace(str(directory), "it")
                    raise BadRequestError(f"this archive cannot be taken in: {said}") from None
                made.record = counted(made.record, memory, made.place.size_bytes())
            return made

        return await self._registry.whole(change())

    async def snapshot(self, scope: Scope) -> Entry:
        """See ``Engine.snapshot``."""

        async def change() -> Entry:
            async with self._registry.changing(scope) as entry:
                await self._saved(entry)
                return entry

        return await self._registry.whole(change())

    async def _saved(self, entry: Entry) -> None:
        assert entry.opened is not None
        if entry.opened.dirty_since is not None or not entry.place.is_stored:
            await self._registry.save(entry)


def _checked(text: SourceText) -> SourceText:
    """A text as it goes to memory and journal, its time fixed.

    Raises:
        InputError: it is none, or its source, time or note cannot be used.
    """
    plain = checked_text(text.text)
    if not isinstance(plain, str):
        raise InputError("text is a list, expected a string")
    if not plain.strip():
        raise EmptyTextError("nothing to write: the text is empty; give text with at least one word")
    note = None if text.note is None else checked_json(text.note, "the note")
    at = seconds_of(time.time() if text.at is None else text.at)
    return SourceText(source=checked_source(text.source) or "", text=plain, at=at, note=note)


def check_sources(memory: Memory, names: Sequence[str] | None) -> list[str]:
    """Names of sources that a memory has.

    Raises:
        UnknownSourceError: it lacks one.
    """
    if names is None or isinstance(names, str) or not names:
        raise BadRequestError("name the sources in a list, or give a choice of them")
    known = {name or "" for name in (*memory.ledger.sources, *(name for name, _ in memory.pending))}
    for name in names:
        if name not in known:
            raise UnknownSourceError(f"this memory has no source {name!r:.300}; GET its sources for their names")
    return list(dict.fromkeys(names))


def _chosen(memory: Memory, where: Where) -> list[str]:
    return chosen(source_infos(memory.state), None, where)


def _merged(memory: Memory, other: Memory, prefix: str) -> MergeReport:
    report = memory.merge(other, prefix=prefix)
    for name in report.sources:
        note = other.notes.get(name.removeprefix(prefix))
        if note is not None:
            memory.note(name, note)
    return report


def opened_archive(directory: Path, model: MPlusModel) -> Memory:
    """The memory that an archive was unpacked to, every byte of it checked.

    Raises:
        SnapshotError: it is damaged, encrypted or of another model.
    """
    refuse_encrypted(directory)
    return Memory.load(directory, model, check_rows=True)
