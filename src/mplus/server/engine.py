"""All that routes may ask of the model and its memories. The event loop waits here and never computes.

Every change is stored before its method returns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mplus.inference.streaming import PieceStream
from mplus.memory.memory import Memory
from mplus.memory.reports import ForgetReport, MergeReport
from mplus.memory.selection import Time, Where
from mplus.model import MPlusModel
from mplus.server.answers import Answering, AnswerRequest, AnswerResult
from mplus.server.errors import ConflictError, UnknownMemoryError, UnknownSourceError
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from mplus.server.texts import SourceText as SourceText

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class EngineCounts:
    """What an engine holds at the moment.

    Attributes:
        waiting: requests that wait for the model; batch: answers that are decoded at once.
        open_memories, open_bytes: of memories in RAM; stored_bytes: of all.
    """

    waiting: int = 0
    batch: int = 0
    open_memories: int = 0
    open_bytes: int = 0
    stored_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class MemoryRecord:
    """What is told of a memory without opening it."""

    id: str
    created_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tokens: int = 0
    sources: int = 0
    bytes: int = 0
    last_used_at: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """What is told of a source."""

    name: str
    tokens: int
    first_at: float | None
    last_at: float | None
    note: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """What was written.

    Attributes:
        tokens: of this text; total_tokens: of the memory.
    """

    source: str
    tokens: int
    total_tokens: int


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage that a search found; its text is that of the whole source where this is short, else of the passage."""

    source: str
    text: str
    score: float
    note: Mapping[str, Any] = field(default_factory=dict)
    at: float | None = None


class Engine:
    """See the module; one model, many memories."""

    def __init__(self, model: MPlusModel, settings: ServerSettings) -> None:
        self.model, self.settings = model, settings
        self._thread = ThreadPoolExecutor(1, "mplus-model")
        self._held: dict[Scope, tuple[MemoryRecord, Memory]] = {}

    async def start(self) -> None:
        """Begin to work."""

    async def stop(self) -> None:
        """End what runs, and save what changed."""
        self._thread.shutdown()

    def counts(self) -> EngineCounts:
        """What it holds now; from any thread, at once."""
        return EngineCounts(open_memories=len(self._held))

    # -- memories --------------------------------------------------------------------------------------------------

    async def create(self, scope: Scope, *, metadata: Mapping[str, Any] | None = None, exist_ok: bool = False) -> MemoryRecord:
        """Make an empty memory.

        Raises:
            ConflictError: there is one of that id.
        """
        if scope in self._held and not exist_ok:
            raise ConflictError(f"memory {scope.memory!r} exists already; choose another id, or delete it first")
        if scope not in self._held:
            record = MemoryRecord(id=scope.memory, created_at=time.time(), metadata=dict(metadata or {}))
            self._held[scope] = record, await self._run(self.model.new_memory)
        return await self.memory(scope)

    async def memories(self, tenant: str) -> list[MemoryRecord]:
        """All memories of a tenant, by id."""
        return [await self.memory(scope) for scope in sorted(self._held) if scope.tenant == tenant]

    async def memory(self, scope: Scope) -> MemoryRecord:
        """Describe one memory.

        Raises:
            UnknownMemoryError: the tenant has none of that id.
        """
        record, memory = self._of(scope)
        sources = memory.sources()
        return MemoryRecord(
            id=record.id,
            created_at=record.created_at,
            metadata=record.metadata,
            tokens=sum(one.tokens for one in sources),
            sources=len(sources),
            last_used_at=time.time(),
        )

    async def set_metadata(self, scope: Scope, metadata: Mapping[str, Any]) -> MemoryRecord:
        """Give a memory other metadata."""
        record, memory = self._of(scope)
        self._held[scope] = MemoryRecord(id=record.id, created_at=record.created_at, metadata=dict(metadata)), memory
        return await self.memory(scope)

    async def delete(self, scope: Scope) -> None:
        """Delete a memory with all that was written for it."""
        self._of(scope)
        del self._held[scope]

    # -- sources ---------------------------------------------------------------------------------------------------

    async def sources(self, scope: Scope) -> list[SourceRecord]:
        """All sources, in the order of their first write."""
        memory = self._of(scope)[1]
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
        await self.source(scope, name)
        return await self._run(self._of(scope)[1].text, name)

    async def write(
        self,
        scope: Scope,
        text: str,
        *,
        source: str,
        at: Time | None = None,
        note: Mapping[str, Any] | None = None,
        create: bool = True,
        progress: Callable[[int], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> WriteResult:
        """Read a text into a memory, at the end of a source.

        Args:
            create: make the memory where there is none.
            progress: called with the text tokens written so far, from another thread.
            cancelled: asked between chunks; True: nothing of this text stays, and InputError is raised.
        """
        if create:
            await self.create(scope, exist_ok=True)
        memory = self._of(scope)[1]
        tokens = await self._run(lambda: memory.write(text, source, at=at, progress=progress))
        if note is not None:
            memory.note(source, note)
        return WriteResult(source=source, tokens=tokens, total_tokens=(await self.memory(scope)).tokens)

    async def write_all(self, scope: Scope, texts: Sequence[SourceText], *, create: bool = True) -> list[WriteResult]:
        """Read several texts into a memory, all of them or none."""
        return [await self.write(scope, one.text, source=one.source, at=one.at, note=one.note, create=create) for one in texts]

    async def note(self, scope: Scope, source: str, note: Mapping[str, Any]) -> None:
        """Give a source another note."""
        await self.source(scope, source)
        self._of(scope)[1].note(source, note)

    async def forget(self, scope: Scope, sources: Sequence[str] | None = None, *, where: Where | None = None) -> ForgetReport:
        """Forget sources; see ``Memory.forget``."""
        memory = self._of(scope)[1]
        for name in sources or ():
            await self.source(scope, name)
        return await self._run(lambda: memory.forget(sources, where=where))

    async def replace(
        self, scope: Scope, source: str, text: str, *, at: Time | None = None, note: Mapping[str, Any] | None = None
    ) -> ForgetReport:
        """Put another text in the place of a source's."""
        await self.source(scope, source)
        memory = self._of(scope)[1]
        report = await self._run(lambda: memory.replace(source, text, at=at))
        if note is not None:
            memory.note(source, note)
        return report

    async def merge(self, scope: Scope, other: Scope, *, prefix: str = "") -> MergeReport:
        """Take in all sources of another memory of the same tenant; see ``Memory.merge``."""
        memory, second = self._of(scope)[1], self._of(other)[1]
        return await self._run(lambda: memory.merge(second, prefix=prefix))

    async def fork(self, scope: Scope, new: Scope) -> MemoryRecord:
        """Make a memory that begins as this one is now.

        Raises:
            ConflictError: there is one of the new id.
        """
        record, memory = self._of(scope)
        if new in self._held:
            raise ConflictError(f"memory {new.memory!r} exists already; choose another id")
        copy = MemoryRecord(id=new.memory, created_at=time.time(), metadata=record.metadata)
        self._held[new] = copy, await self._run(memory.fork)
        return await self.memory(new)

    async def export(self, scope: Scope, path: Path) -> None:
        """Write a memory as one file (``.mplus``)."""
        self._of(scope)
        raise NotImplementedError

    async def import_(self, scope: Scope, path: Path) -> MemoryRecord:
        """Make a memory of such a file."""
        raise NotImplementedError

    async def snapshot(self, scope: Scope) -> MemoryRecord:
        """Save a memory now."""
        return await self.memory(scope)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def search(self, scope: Scope, query: str, *, top_k: int = 10) -> list[Hit]:
        """Passages that a prompt would read, best score first."""
        memory = self._of(scope)[1]
        answer = await self._run(lambda: self.model.generate(query, memory=memory, trace=True, max_new_tokens=1))
        hits: dict[str, Hit] = {}
        for passage in answer.trace.passages:
            if passage.source is not None and passage.score is not None and passage.source not in hits:
                hits[passage.source] = Hit(
                    source=passage.source,
                    text=passage.text or "",
                    score=passage.score,
                    note=memory.notes.get(passage.source, {}),
                )
        return list(hits.values())[:top_k]

    async def answer(self, request: AnswerRequest) -> Answering:
        """Begin to answer a prompt."""
        memory = self._of(request.scope)[1] if request.scope is not None else None
        answering = Answering(asyncio.get_running_loop())
        self._thread.submit(self._answer, request, memory, answering)
        return answering

    def _answer(self, request: AnswerRequest, memory: Memory | None, answering: Answering) -> None:
        stream = PieceStream(self.model.tokenizer, answering.put)
        options: dict[str, Any] = {"max_new_tokens": request.sampling.max_tokens or 64, "streamer": stream}
        if memory is not None:
            options["trace"] = True
        try:
            if request.messages is not None:
                out: Any = self.model.chat(list(request.messages), memory=memory, **options)
            else:
                out = self.model.generate(request.prompt, memory=memory, **options)
            text = str(out)
            answering.end(
                AnswerResult(
                    text=text,
                    finish="stop",
                    prompt_tokens=len(str(request.prompt or request.messages)),
                    completion_tokens=len(text),
                    memory_tokens=0 if memory is None else memory.tokens_read,
                    trace=out.trace if request.trace and memory is not None else None,
                )
            )
        except BaseException as error:
            answering.fail(error)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _of(self, scope: Scope) -> tuple[MemoryRecord, Memory]:
        if scope not in self._held:
            raise UnknownMemoryError(f"there is no memory {scope.memory!r}; create it, or GET /v1/memories for those there are")
        return self._held[scope]

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
