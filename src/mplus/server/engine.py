"""All that routes may ask of the model and its memories. The event loop waits here and never computes.

Every change is stored before its method returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from mplus.memory.memory import Memory
from mplus.memory.reports import ForgetReport, MergeReport
from mplus.memory.selection import Time, Where
from mplus.model import MPlusModel
from mplus.server.answers import Answering, AnswerRequest
from mplus.server.errors import ConflictError, UnavailableError, UnknownSourceError
from mplus.server.io_threads import io_threads
from mplus.server.memories.changes import Changes, check_sources
from mplus.server.memories.changes import WriteResult as WriteResult
from mplus.server.memories.entry import Entry
from mplus.server.memories.index import Index
from mplus.server.memories.place import MemoryRecord as MemoryRecord
from mplus.server.memories.place import checked_json
from mplus.server.memories.registry import Registry
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText as SourceText
from mplus.server.worker import Worker, WorkerEvents

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class EngineCounts:
    """What an engine holds at the moment.

    Attributes:
        waiting: requests that wait for the model; passing: prompts that pass; batch: answers that are decoded at once.
        open_memories, open_bytes: of memories in RAM; stored_bytes: of all of tenants that came since the start.
    """

    waiting: int = 0
    passing: int = 0
    batch: int = 0
    open_memories: int = 0
    open_bytes: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """What is told of a source."""

    name: str
    tokens: int
    first_at: float | None
    last_at: float | None
    note: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that a search found; its text is that of the whole source where this is short, else of the passage."""

    source: str
    text: str
    score: float
    note: Mapping[str, Any] = field(default_factory=dict)
    at: float | None = None


class Engine:
    """See the module; one model, many memories.

    Args:
        events: is told what happens in the worker; nobody by default.
    """

    def __init__(self, model: MPlusModel, settings: ServerSettings, events: WorkerEvents | None = None) -> None:
        self.model, self.settings = model, settings
        self.worker = Worker(model, settings, events)
        self._registry: Registry | None = None

    async def start(self) -> None:
        """Begin to work.

        Raises:
            StoreError: another server has the home, or its index cannot be used.
        """
        threads = await io_threads()
        self._registry = await Registry.start(self.model, self.settings, self.worker)
        self.worker.start(threads.model_threads)

    async def stop(self) -> None:
        """End what runs, and save what changed."""
        if self._registry is not None:
            await self._registry.stop()
            self._registry = None
        await asyncio.to_thread(lambda: self.worker.stop(timeout_s=self.settings.drain_timeout_s))

    @property
    def registry(self) -> Registry:
        """The memories, between ``start`` and ``stop``.

        Raises:
            UnavailableError: it is before or after.
        """
        if self._registry is None:
            raise UnavailableError("the server is starting or stopping; try again in a moment", retry_after_s=1)
        return self._registry

    @property
    def index(self) -> Index:
        """Ids that were given out, and quotas."""
        return self.registry.index

    def counts(self) -> EngineCounts:
        """What it holds now; from any thread, at once."""
        if self._registry is None:
            return EngineCounts()
        known, held = self._registry.catalogue.known, self._registry.catalogue.open
        load = self.worker.load
        return EngineCounts(
            waiting=load.waiting + load.prefilling + load.writes + load.calls,
            passing=load.prefilling,
            batch=load.running,
            open_memories=len(held),
            open_bytes=sum(entry.ram_bytes for entry in held),
            stored_bytes=sum(entry.bytes for entry in known),
        )

    # -- memories --------------------------------------------------------------------------------------------------

    async def create(self, scope: Scope, *, metadata: Mapping[str, Any] | None = None, exist_ok: bool = False) -> MemoryRecord:
        """Make an empty memory.

        Raises:
            ConflictError: there is one of that id.
        """
        kept = checked_json(metadata or {}, "metadata")
        try:
            return _record(await self.registry.whole(self.registry.catalogue.create(scope, kept)))
        except ConflictError:
            if not exist_ok:
                raise
            return await self.memory(scope)

    async def memories(self, tenant: str) -> list[MemoryRecord]:
        """All memories of a tenant, by id."""
        return [_record(entry) for entry in await self.registry.catalogue.entries(tenant)]

    async def memory(self, scope: Scope) -> MemoryRecord:
        """Describe one memory.

        Raises:
            UnknownMemoryError: the tenant has none of that id.
        """
        return _record(await self.registry.catalogue.entry(scope))

    async def set_metadata(self, scope: Scope, metadata: Mapping[str, Any]) -> MemoryRecord:
        """Give a memory other metadata."""
        kept = checked_json(metadata, "metadata")
        return _record(await self.registry.whole(self.registry.catalogue.set_metadata(scope, kept)))

    async def delete(self, scope: Scope) -> None:
        """Delete a memory with all that was written for it, and its ids; nothing of it is left on the disk."""
        await self.registry.whole(self.registry.catalogue.delete(scope))

    # -- sources ---------------------------------------------------------------------------------------------------

    async def sources(self, scope: Scope) -> list[SourceRecord]:
        """All sources, in the order of their first write."""
        async with self.registry.using(scope) as entry:
            return await asyncio.to_thread(_sources, entry.memory)

    async def source(self, scope: Scope, name: str) -> SourceRecord:
        """Describe one source.

        Raises:
            UnknownSourceError: the memory has none of that name.
        """
        for one in await self.sources(scope):
            if one.name == name:
                return one
        raise UnknownSourceError(f"this memory has no source {name!r}; GET its sources for their names")

    async def text(self, scope: Scope, name: str) -> str:
        """The text of a source."""
        async with self.registry.using(scope) as entry:
            memory = entry.memory
            check_sources(memory, [name])
            return await asyncio.to_thread(memory.text, name)

    async def write(
        self,
        scope: Scope,
        text: str,
        *,
        source: str,
        at: Time | None = None,
        note: Mapping[str, Any] | None = None,
        key: str | None = None,
        create: bool = True,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> WriteResult:
        """Read a text into a memory, at the end of a source.

        Args:
            key: an ``Idempotency-Key``: a write that is sent again under the same one gives the same result and writes nothing.
            create: make the memory where there is none.
            progress: called with the text tokens written so far, from another thread.
            cancelled: asked between chunks; True: nothing of this text stays, and InputError is raised.

        Raises:
            QuotaError: the tenant has no room for it; nothing changed.
            ConflictError: the key was used for another text.
        """
        texts = [SourceText(source=source, text=text, at=at, note=note)]
        return (await self._changes.write(scope, texts, key=key, create=create, progress=progress, cancelled=cancelled))[0]

    async def write_all(self, scope: Scope, texts: Sequence[SourceText], *, create: bool = True) -> list[WriteResult]:
        """Read several texts into a memory, all of them or none."""
        return await self._changes.write(scope, texts, create=create)

    async def note(self, scope: Scope, source: str, note: Mapping[str, Any]) -> None:
        """Give a source another note."""
        await self._changes.note(scope, source, note)

    async def forget(self, scope: Scope, sources: Sequence[str] | None = None, *, where: Where | None = None) -> ForgetReport:
        """Forget sources, their ids too; see ``Memory.forget``. Nothing of them is left on the disk afterwards.

        Raises:
            UnknownSourceError: one of them is not there; nothing changed.
        """
        return await self._changes.forget(scope, sources, where)

    async def replace(
        self,
        scope: Scope,
        source: str,
        text: str,
        *,
        at: Time | None = None,
        note: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ForgetReport:
        """Put another text in the place of a source's, of which nothing is left on the disk; ids that name the source stay.

        Args:
            note: None keeps the note that the source has.
            progress, cancelled: see ``write``; where it is cancelled the old text stays.
        """
        new = SourceText(source=source, text=text, at=at, note=note)
        return await self._changes.replace(scope, new, progress, cancelled)

    async def merge(self, scope: Scope, other: Scope, *, prefix: str = "") -> MergeReport:
        """Take in all sources of another memory of the same tenant, with their notes; see ``Memory.merge``."""
        return await self._changes.merge(scope, other, prefix)

    async def fork(self, scope: Scope, new: Scope) -> MemoryRecord:
        """Make a memory that begins as this one is now; what both have lies on the disk once.

        Raises:
            ConflictError: there is one of the new id.
        """
        return _record(await self._changes.fork(scope, new))

    async def export(self, scope: Scope, path: Path) -> None:
        """Write a memory as one file (``.mplus``)."""
        await self._changes.export(scope, path)

    async def import_(self, scope: Scope, path: Path) -> MemoryRecord:
        """Make a memory of such a file.

        Raises:
            ConflictError: there is one of that id.
            BadRequestError: the file is damaged, or its memory was written by another model.
        """
        return _record(await self._changes.import_(scope, path))

    async def snapshot(self, scope: Scope) -> MemoryRecord:
        """Save a memory now."""
        return _record(await self._changes.snapshot(scope))

    async def stored_bytes(self, tenant: str) -> int:
        """Bytes that a tenant's memories have; what quotas are compared with."""
        return await self.registry.stored_bytes(tenant)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def search(self, scope: Scope, query: str, *, top_k: int = 10) -> list[Hit]:
        """Passages that a prompt would read, one a source, best score first.

        What stands before every prompt and was not scored comes last, with the score 0: a short memory is read whole.
        """
        async with self.registry.using(scope) as entry:
            memory = entry.memory
            passages = await asyncio.wrap_future(self.worker.search(scope.tenant, memory, query))
        hits: dict[str, Hit] = {}
        for passage in passages:
            if passage.source is not None and passage.source not in hits:
                hits[passage.source] = Hit(
                    source=passage.source,
                    text=passage.text or "",
                    score=passage.score or 0.0,
                    note=memory.notes.get(passage.source, {}),
                )
        return list(hits.values())[:top_k]

    async def answer(self, request: AnswerRequest) -> Answering:
        """Begin to answer a prompt; what is wrong with it is raised here.

        Raises:
            UnknownMemoryError, MPlusError: see ``Worker.prompt_of``.
        """
        registry, answering = self.registry, Answering(asyncio.get_running_loop())
        if request.scope is None:
            prompt = await asyncio.to_thread(self.worker.prompt_of, request, None)
            self.worker.answer(request, None, answering, prompt)
            return answering
        entry = await registry.acquire(request.scope)
        try:
            memory, reads = entry.memory, request.reads
            if reads is not None:
                memory = await asyncio.to_thread(memory.read_only, reads.sources, before=reads.before, after=reads.after)
            prompt = await asyncio.to_thread(self.worker.prompt_of, request, memory)
            self.worker.answer(request, memory, answering, prompt)
        except BaseException:
            registry.release(entry)
            raise
        answering.when_done(lambda: registry.release(entry))
        return answering

    # -- inside ----------------------------------------------------------------------------------------------------

    @property
    def _changes(self) -> Changes:
        return Changes(self.registry, self.worker)


def _record(entry: Entry) -> MemoryRecord:
    return replace(entry.record, tokens=entry.tokens, sources=entry.sources, bytes=entry.bytes, last_used_at=entry.last_used)


def _sources(memory: Memory) -> list[SourceRecord]:
    return [
        SourceRecord(
            name=one.name,
            tokens=one.tokens,
            first_at=one.first_at,
            last_at=one.last_at,
            note=memory.notes.get(one.name, {}),
        )
        for one in memory.sources()
    ]
