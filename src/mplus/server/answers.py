"""One question to the engine and its answer, piece by piece. Knows no web and no worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from mplus.inference.sampling import Sampling as Sampling
from mplus.memory.selection import ReadScope
from mplus.server.scope import Scope
from mplus.trace.trace import Trace

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True)
class AnswerRequest:
    """One prompt: either `messages` of a conversation (role and content) or a `prompt` of plain text.

    Attributes:
        tenant: whose turn it is; requests are served in turn by tenant.
        scope: the memory that is read; None: the bare model.
        reads: what of it may be read; None: all of it.
        rounds: how often the prompt searches (``mplus.text.search_query``).
        trace: also say which passages were read.
        confidence: also say how likely it is that the memory holds the answer.
        min_confidence: below it the answer is the refusal, given when the answer is whole; None: never.
    """

    tenant: str
    scope: Scope | None = None
    reads: ReadScope | None = None
    rounds: int = 1
    messages: Sequence[Mapping[str, str]] | None = None
    prompt: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    trace: bool = False
    confidence: bool = False
    min_confidence: float | None = None

    @property
    def is_judged(self) -> bool:
        """Whether a confidence is needed."""
        return self.scope is not None and (self.confidence or self.min_confidence is not None)


@dataclass(frozen=True, kw_only=True)
class AnswerResult:
    """A whole answer.

    Attributes:
        memory_tokens: memory tokens that stood before the prompt.
        confidence: None: it was not asked for, or cannot be told.
        is_refused: whether the text is the refusal in place of an answer.
    """

    text: str
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    memory_tokens: int = 0
    trace: Trace | None = None
    confidence: float | None = None
    is_refused: bool = False


observer: ContextVar[Callable[[Answering, AnswerResult | None], None] | None] = ContextVar("observer", default=None)
"""Called in the event loop with each answer that ends; an answer takes the one of the context in which it begins."""


class Answering:
    """An answer that is being made: iterate for its pieces, then ``await result()``.

    The worker's thread calls ``put``, ``end`` and ``fail``; one coroutine reads.

    Attributes:
        begun_s, first_piece_s, ended_s: when, by the monotonic clock; None: not yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_cancel: Callable[[], None] = lambda: None) -> None:
        self._loop, self._on_cancel = loop, on_cancel
        self.is_cancelled = False
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self._result: asyncio.Future[AnswerResult] = loop.create_future()
        self._result.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting any more
        self._observer = observer.get()
        self.begun_s = time.monotonic()
        self.first_piece_s: float | None = None
        self.ended_s: float | None = None

    def put(self, piece: str) -> None:
        """Give the next piece of text; from any thread."""
        self.first_piece_s = self.first_piece_s or time.monotonic()
        self._call(self._pieces.put_nowait, piece)

    def end(self, result: AnswerResult) -> None:
        """Give the whole; from any thread."""
        self._call(self._finish, result, None)

    def fail(self, error: BaseException) -> None:
        """End with an error; from any thread."""
        self._call(self._finish, None, error)

    def when_done(self, act: Callable[[], None]) -> None:
        """Have something done on the event loop when the answer has ended, however it did."""
        self._result.add_done_callback(lambda _: act())

    def cancel(self) -> None:
        """Stop making it; what was made so far is the result. From any thread."""
        self.is_cancelled = True
        self._on_cancel()

    async def result(self) -> AnswerResult:
        """The whole answer, when it is there.

        Raises:
            MPlusError: what went wrong.
        """
        return await asyncio.shield(self._result)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        self._result.result()  # raises where it failed

    def _finish(self, result: AnswerResult | None, error: BaseException | None) -> None:
        if self._result.done():
            return
        self.ended_s = time.monotonic()
        if self._observer is not None:
            self._observer(self, result)
        if error is not None:
            self._result.set_exception(error)
        else:
            assert result is not None
            self._result.set_result(result)
        self._pieces.put_nowait(None)

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody listens
            self.cancel()
