"""Long writes that run while their client does other things: progress, cancel, what became of them. Knows no web.

A job lives in this process. The text is in the memory whole or not at all, which the engine's journal sees to; after a restart a job
that had not ended is told as interrupted.
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

from mplus.server.engine import WriteResult
from mplus.server.errors import BusyError, NotFoundError, as_api_error
from mplus.server.scope import Scope

log = logging.getLogger(__name__)

MOST_ENDED = 1000
"""Jobs that have ended and are still told, of all tenants; the oldest go first."""
MOST_OPEN = 32
"""Jobs of one tenant that wait or run at once; each holds its text."""
Kind = Literal["write", "replace"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
ENDED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})


@dataclass(eq=False)
class Job:
    """One long write.

    Attributes:
        tokens_total: of the text; None where it was not counted.
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

    def tell(self) -> None:
        """Wake those who watch."""
        for watcher in self._watchers:
            watcher.set()

    async def changes(self, every_s: float) -> AsyncIterator[bool]:
        """Yield True at once and after each change, False where none came for so long; ends with the job."""
        woken = asyncio.Event()
        self._watchers.add(woken)
        try:
            yield True
            while not self.has_ended:
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

    def start(self, scope: Scope, kind: Kind, source: str, work: Work, *, tokens_total: int | None = None) -> Job:
        """Begin a job.

        Raises:
            BusyError: the tenant has as many as it may.
        """
        mine = sum(not one.has_ended for one in self._jobs.values() if one.scope.tenant == scope.tenant)
        if mine >= MOST_OPEN:
            raise BusyError(f"{mine} jobs of yours wait or run; wait for one to end, or cancel one", retry_after_s=10)
        job = Job(f"job_{secrets.token_hex(12)}", scope, kind, source, tokens_total)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def of(self, tenant: str, id: str) -> Job:
        """A job of a tenant.

        Raises:
            NotFoundError: it has none of that id.
        """
        job = self._jobs.get(id)
        if job is None or job.scope.tenant != tenant:
            raise NotFoundError(
                "there is no job of that id; jobs that have ended are told for a while only", code="job_not_found"
            )
        return job

    def all_of(self, tenant: str) -> list[Job]:
        """All jobs of a tenant that are still told, oldest first."""
        return [one for one in self._jobs.values() if one.scope.tenant == tenant]

    async def stop(self) -> None:
        """Cancel what runs, and wait for it: nothing of it stays."""
        for job in self._jobs.values():
            if not job.has_ended:
                job.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: Job, work: Work) -> None:
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
            job.tell()
            self._forget_oldest()

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
