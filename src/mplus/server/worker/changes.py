"""Writes and short changes: in order for each memory, writes of several share passes. Used by the worker's thread alone.

A write goes into a copy of its memory that nobody else sees, and the memory becomes that copy when all of its texts are in.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mplus.errors import InputError, ReentryError
from mplus.memory.memory import Memory
from mplus.memory.rows import ChunkToEncode, EncodedChunk
from mplus.memory.write_many import SideBySide, TextWrite
from mplus.model import MPlusModel
from mplus.server.texts import SourceText
from mplus.server.worker.events import WorkerEvents
from mplus.server.worker.tenants import TenantQueue

log = logging.getLogger(__name__)

CHUNKS = 8
"""Chunks of one write pass at most."""
WRITES = 2 * CHUNKS
"""Writes that are under way at most: each has a copy of its memory's short-term rows."""
Wanted = tuple[TextWrite | None, ChunkToEncode]


@dataclass(eq=False, kw_only=True)
class Change:
    """Something that changes or stores memories.

    Attributes:
        memories: whose earlier changes come first.
        function: of a short change; None: a write of `texts` into the one memory.
    """

    tenant: str
    memories: Sequence[Memory]
    future: Future[Any]
    function: Callable[[], Any] | None = None
    texts: Sequence[SourceText] = ()
    share: bool = False
    progress: Callable[[int], None] | None = None
    cancelled: Callable[[], bool] | None = None


class Writing:
    """Texts on their way into one memory, all of them or none."""

    def __init__(self, change: Change) -> None:
        self.change, (self.memory,) = change, change.memories
        self._base, self.twin = self.memory.state, self.memory.fork()
        self._left = deque(change.texts)
        self._done: list[int] = []
        self._running: SideBySide | None = None
        self._steps: Generator[ChunkToEncode, EncodedChunk, int] | None = None
        self._chunk: ChunkToEncode | None = None
        self._before = 0
        self._next()

    @property
    def is_done(self) -> bool:
        """Whether every text is in the copy."""
        return self._running is None and self._steps is None

    def wanted(self, most: int) -> list[Wanted]:
        """Chunks that can be encoded beside each other; none where the texts need no pass."""
        while not self.is_done:
            if self._chunk is not None:
                return [(None, self._chunk)]
            assert self._running is not None
            found: list[Wanted] = list(self._running.wanted(most))
            if found:
                return found
            self._running.give([], [])  # rows that lie ready elsewhere
            self._follow()
        return []

    def give(self, wanted: Sequence[Wanted], written: Sequence[EncodedChunk]) -> None:
        """Take what a pass made of chunks that were wanted."""
        if self._steps is not None:
            self._step(written[0])
            return
        assert self._running is not None
        self._running.give([(job, chunk) for job, chunk in wanted if job is not None], written)
        self._follow()

    def commit(self) -> list[int]:
        """Have the memory be the copy; gives the text tokens of each text.

        Raises:
            ReentryError: somebody else has changed the memory meanwhile.
        """
        for one in self.change.texts:
            if one.note is not None:
                self.twin.note(one.source, one.note)
        with self.memory.turn.held():
            if self.memory.state is not self._base:
                raise ReentryError(
                    "this memory was changed while a text was being written into it; change memories by the worker's `change` only"
                )
            self.memory.become(self.twin.state)
        return self._done

    def _next(self) -> None:
        """Begin with the texts that can be written beside each other: sources of their own, or one text."""
        self._running = self._steps = self._chunk = None
        if not self._left:
            return
        if self.twin.geometry.write.context == "memory":
            one = self._left.popleft()
            self._steps = self.twin.steps(one.text, one.source, self._tell, at=one.at, share=self.change.share)
            self._step(None)
            return
        now: dict[str, SourceText] = {}
        while self._left and self._left[0].source not in now:
            one = self._left.popleft()
            now[one.source] = one
        writings = [self.twin.writing(one.text, one.source, at=one.at, share=self.change.share) for one in now.values()]
        self._running = SideBySide(writings, self._tell)

    def _follow(self) -> None:
        if self._running is not None and self._running.is_done:
            self._done += self._running.tokens
            self._before = sum(self._done)
            self._next()

    def _step(self, written: EncodedChunk | None) -> None:
        assert self._steps is not None
        try:
            self._chunk = next(self._steps) if written is None else self._steps.send(written)
        except StopIteration as end:
            self._done.append(int(end.value))
            self._before = sum(self._done)
            self._next()

    def _tell(self, tokens: int) -> None:
        if self.change.progress is not None:
            self.change.progress(self._before + tokens)


class Changes:
    """All writes and short changes of the worker."""

    def __init__(self, model: MPlusModel, events: WorkerEvents) -> None:
        self.model, self.events = model, events
        self.waiting: TenantQueue[Change] = TenantQueue()
        self.writing: TenantQueue[Writing] = TenantQueue()
        self._lines: dict[int, deque[Change]] = {}
        """By memory, what is to happen to it, the first of which may run."""

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(len(self.waiting) or len(self.writing))

    def add(self, change: Change) -> None:
        """Put a change behind those of its memories."""
        for memory in _different(change.memories):
            self._lines.setdefault(id(memory), deque()).append(change)
        self.waiting.put(change.tenant, change)

    def end_all(self, error: BaseException) -> None:
        """Give all of them up; no memory has changed."""
        for writing in self.writing.take_all():
            self._end(writing.change, error=error)
        for change in self.waiting.take_all():
            self._end(change, error=error)

    def run_short(self) -> None:
        """Run short changes that are due, one of each tenant, and begin the writes that are due."""
        for _ in range(max(1, len({change.tenant for change in self.waiting}))):
            change = self.waiting.take(self._is_due)
            if change is None:
                return
            self._begin(change)

    def write(self, tokens: int) -> None:
        """One pass of chunks, of at most so many tokens but at least one chunk; tenants in turn."""
        self._end_cancelled()
        taken: list[tuple[Writing, list[Wanted]]] = []
        chunks = 0
        for writing in self._in_turn():
            if chunks and (chunks >= CHUNKS or tokens <= 0):
                break
            wanted = self._wanted(writing, CHUNKS - chunks, tokens, is_first=not chunks)
            if wanted:
                taken.append((writing, wanted))
                chunks += len(wanted)
                tokens -= sum(len(chunk.ids) for _, chunk in wanted)
        if taken and not self._encoded(taken) and len(taken) > 1:
            for one in taken:
                self._encoded([one])
        self._commit_done()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_due(self, change: Change) -> bool:
        if change.function is None and len(self.writing) >= WRITES:
            return False
        return all(self._lines[id(memory)][0] is change for memory in change.memories)

    def _begin(self, change: Change) -> None:
        if not change.future.set_running_or_notify_cancel():
            self._forget(change)
            return
        try:
            if change.function is not None:
                result = change.function()
                self._forget(change)
                change.future.set_result(result)
                return
            self.writing.put(change.tenant, Writing(change))
        except BaseException as error:
            self._end(change, error=error)
            if not isinstance(error, Exception):
                raise

    def _in_turn(self) -> list[Writing]:
        """All writes, a tenant's first ones before anybody's second."""
        first = self.writing.take()
        if first is None:
            return []
        self.writing.put(first.change.tenant, first)  # whoever had the last pass is behind the others now
        by_tenant: dict[str, int] = {}
        ranked = []
        for place, writing in enumerate([first, *(one for one in self.writing if one is not first)]):
            rank = by_tenant[writing.change.tenant] = by_tenant.get(writing.change.tenant, -1) + 1
            ranked.append((rank, place, writing))
        return [writing for _, _, writing in sorted(ranked, key=lambda one: one[:2])]

    def _wanted(self, writing: Writing, most: int, tokens: int, *, is_first: bool) -> list[Wanted]:
        try:
            found = writing.wanted(most)
        except Exception as error:
            self._drop(writing, error)
            return []
        out: list[Wanted] = []
        for one in found:
            tokens -= len(one[1].ids)
            if tokens < 0 and (out or not is_first):
                break
            out.append(one)
        return out

    def _encoded(self, taken: Sequence[tuple[Writing, list[Wanted]]]) -> bool:
        """Encode chunks in shared passes and give them to their writes; whether that went well for all that are taken together."""
        began = time.monotonic()
        requests = [(chunk, writing.twin) for writing, wanted in taken for _, chunk in wanted]
        try:
            written = self.model.writer.encode_many(requests, batch=CHUNKS)
        except Exception as error:
            if len(taken) == 1:
                self._drop(taken[0][0], error)
            else:
                log.warning("a write pass of %d memories failed, each is tried alone", len(taken), exc_info=error)
            return False
        self.events.wrote(sum(len(chunk.ids) for chunk, _ in requests), time.monotonic() - began)
        place = 0
        for writing, wanted in taken:
            own = written[place : place + len(wanted)]
            place += len(wanted)
            try:
                writing.give(wanted, own)
            except Exception as error:
                self._drop(writing, error)
        return True

    def _commit_done(self) -> None:
        for writing in self.writing.take_all(lambda one: one.is_done):
            try:
                result = writing.commit()
            except Exception as error:
                self._end(writing.change, error=error)
            else:
                self._forget(writing.change)
                writing.change.future.set_result(result)

    def _end_cancelled(self) -> None:
        for writing in list(self.writing):
            try:
                gone = writing.change.cancelled is not None and writing.change.cancelled()
            except Exception as error:
                self._drop(writing, error)
                continue
            if gone:
                self._drop(writing, InputError("this write was cancelled; nothing of it was kept"))

    def _drop(self, writing: Writing, error: BaseException) -> None:
        self.writing.take_all(lambda one: one is writing)
        self._end(writing.change, error=error)

    def _end(self, change: Change, *, error: BaseException) -> None:
        self._forget(change)
        self.events.failed("change" if change.function is not None else "write", error)
        if not change.future.done():
            change.future.set_exception(error)

    def _forget(self, change: Change) -> None:
        for memory in _different(change.memories):
            line = self._lines[id(memory)]
            line.remove(change)
            if not line:
                del self._lines[id(memory)]


def _different(memories: Sequence[Memory]) -> list[Memory]:
    return list({id(memory): memory for memory in memories}.values())
