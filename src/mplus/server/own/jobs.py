"""Long writes that run while their client does other things: progress, cancel, what became of them. Knows no web.

A job lives in this process; the index keeps its id, without text. The text is in the memory whole or not at all, which the engine's
journal sees to: a job that had not ended at a restart is told as interrupted, and its source is there or not.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from mplus.errors import MPlusError
from mplus.server.errors import BusyError, NotFoundError, as_api_error
from mplus.server.memories.changes import WriteResult
from mplus.server.memories.index import Index, IndexEntry
from mplus.server.scope import Scope

log = logging.getLogger(__name__)

MOST_ENDED = 1000
"""Jobs that have ended and are still told, of all tenants; the oldest go first."""
MOST_OPEN = 32
"""Jobs of one tenant that wait or run at once; each holds its text."""
KIND = "job"
"""Of entries in the index."""
TOLD_S = 7 * 24 * 3600.0
"""So long a job of a process before is told."""
INTERRUPTED = "the server was restarted before this job ended; its text is in the memory whole or not at all: look for its source"
Kind = Literal["write", "replace"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


@dataclass(eq=False)
class Job:
    """One long write.

    Attributes:
        tokens_total: of the text; None until it is counted.
        tokens_done: written so far; nothing of it stays unless the job succeeds.
        error: message and code of what went wrong.
    """

    id: str
    scope: Scope
    kind: Kind
    source: str
    tokens_total: int | None = None
    status: Status = "queued"
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    tokens_done: int = 0
    result: WriteResult | None = None
    error: dict[str, str | None] | None = None

    def __post_init__(self) -> None:
        self._stop, self._first_tokens = threading.Event(), 0
        self._watchers: set[asyncio.Event] = set()
        self._is_watched = True

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.status in ENDED

    @property
    def tokens_per_s(self) -> float | None:
        """Speed since its first tokens were told; None until more are."""
        if self.started_at is None or self.tokens_done <= self._first_tokens:
            return None
        return (self.tokens_done - self._first_tokens) / max((self.ended_at or time.time()) - self.started_at, 1e-6)

    @property
    def time_left_s(self) -> float | None:
        """Seconds that it will still take at this speed; None where it cannot be said."""
        if self.has_ended or self.tokens_total is None or (speed := self.tokens_per_s) is None:
            return None
        return max(self.tokens_total - self.tokens_done, 0) / speed

    def is_cancelled(self) -> bool:
        """Whether it was asked to stop; from any thread."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Ask it to stop."""
        self._stop.set()

    def progress(self, tokens: int) -> None:
        """Take how many tokens are written; from any thread."""
        self.tokens_done = tokens
        if self.started_at is None:
            self.status, self.started_at, self._first_tokens = "running", time.time(), tokens

    def end_watching(self) -> None:
        """End ``changes`` of all who watch."""
        self._is_watched = False
        self.tell()

    def tell(self) -> None:
        """Wake those who watch."""
        for watcher in self._watchers:
            watcher.set()

    async def changes(self, every_s: float) -> AsyncIterator[bool]:
        """Yield True at once and after each change, False where none came for so long; ends with the job or the server."""
        woken = asyncio.Event()
        self._watchers.add(woken)
        try:
            yield True
            while not self.has_ended and self._is_watched:
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), every_s)
                changed = woken.is_set()
                woken.clear()
                yield changed
        finally:
            self._watchers.discard(woken)


Work = Callable[[Callable[[int], None], Callable[[], bool]], Awaitable[WriteResult]]
"""Takes what is told of progress, and what says whether to stop."""


class Jobs:
    """The jobs of one server."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, index: Index, scope: Scope, kind: Kind, source: str, work: Work, count: Callable[[], int]) -> Job:
        """Begin a job.

        Args:
            index: is told of it now and when it ends.
            count: counts the tokens of its text, in another thread, while it runs.

        Raises:
            BusyError: the tenant has as many as it may.
        """
        mine = sum(not one.has_ended for one in self._jobs.values() if one.scope.tenant == scope.tenant)
        if mine >= MOST_OPEN:
            raise BusyError(f"{mine} jobs of yours wait or run; wait for one to end, or cancel one", retry_after_s=10)
        job = Job(f"job_{secrets.token_hex(12)}", scope, kind, source)
        index.expire(KIND, time.time() - TOLD_S)
        _remember(index, job)
        self._jobs[job.id] = job
        for doing in (self._run(index, job, work), self._count(job, count)):
            task = asyncio.create_task(doing)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return job

    def of(self, index: Index, tenant: str, id: str) -> Job:
        """A job of a tenant, of this process or of one before.

        Raises:
            NotFoundError: it has none of that id.
        """
        job = self._jobs.get(id)
        if job is not None and job.scope.tenant == tenant:
            return job
        entry = index.get(tenant, KIND, id)
        if entry is None:
            raise NotFoundError("there is no job of that id (any more)", code="job_not_found")
        return _recalled(entry)

    def all_of(self, index: Index, tenant: str) -> list[Job]:
        """All jobs of a tenant that are still told, oldest first."""
        mine = {id: one for id, one in self._jobs.items() if one.scope.tenant == tenant}
        before = [_recalled(one) for one in index.list(tenant, KIND) if one.id not in mine]
        return [*before, *mine.values()]

    def end_watching(self) -> None:
        """End the events of all jobs, so that a server that stops need not wait for who watches them."""
        for job in self._jobs.values():
            job.end_watching()

    async def stop(self) -> None:
        """Cancel what runs, and wait for it: nothing of it stays."""
        for job in self._jobs.values():
            if not job.has_ended:
                job.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, index: Index, job: Job, work: Work) -> None:
        loop = asyncio.get_running_loop()

        def progress(tokens: int) -> None:
            job.progress(tokens)
            with suppress(RuntimeError):  # the loop is closed: nobody watches
                loop.call_soon_threadsafe(job.tell)

        try:
            job.result = await work(progress, job.is_cancelled)
            job.status, job.tokens_done = "succeeded", job.result.tokens
        except BaseException as error:
            self._failed(job, error)
            if not isinstance(error, Exception):
                raise
        finally:
            job.ended_at = time.time()
            with suppress(MPlusError):  # the index is closed, or the disk full: then it is told as interrupted
                _remember(index, job)
            job.tell()
            self._forget_oldest()

    async def _count(self, job: Job, count: Callable[[], int]) -> None:
        job.tokens_total = await asyncio.to_thread(count)
        job.tell()

    def _failed(self, job: Job, error: BaseException) -> None:
        if job.is_cancelled() or isinstance(error, asyncio.CancelledError):
            job.status = "cancelled"
            return
        told = as_api_error(error if isinstance(error, Exception) else RuntimeError())
        job.status, job.error = "failed", {"message": told.message, "code": told.code, "type": told.kind}
        if told.status >= 500:
            log.error("a job failed", exc_info=error, extra={"job": job.id})

    def _forget_oldest(self) -> None:
        ended = [one.id for one in self._jobs.values() if one.has_ended]
        for id in ended[: max(len(ended) - MOST_ENDED, 0)]:
            del self._jobs[id]


def _remember(index: Index, job: Job) -> None:
    """Keep what is told of a job after a restart; it goes with its memory and its source."""
    names = ("kind", "status", "tokens_total", "tokens_done", "ended_at", "error")
    data = {name: getattr(job, name) for name in names}
    if job.result is not None:
        data["total_tokens"] = job.result.total_tokens
    tenant, memory = job.scope.tenant, job.scope.memory
    index.put(
        IndexEntry(tenant=tenant, kind=KIND, id=job.id, memory=memory, source=job.source, created_at=job.created_at, data=data)
    )


def _recalled(entry: IndexEntry) -> Job:
    """A job of a process before."""
    data = dict(entry.data)
    scope, total = Scope(entry.tenant, entry.memory or ""), data.pop("total_tokens", None)
    job = Job(entry.id, scope, source=entry.source or "", created_at=entry.created_at, **data)
    if total is not None:
        job.result = WriteResult(source=job.source, tokens=job.tokens_done, total_tokens=total)
    if not job.has_ended:
        job.status = "interrupted"
        job.error = {"message": INTERRUPTED, "code": "interrupted", "type": "server_error"}
    return job
