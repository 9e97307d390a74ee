"""Answers on their way to a client: server-sent events, a client that goes away, usage. Knows no request body.

A client that goes away stops its answer, and then nothing of the exchange is written.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from mplus.server.answers import Answering, AnswerResult
from mplus.server.errors import ApiError, InternalError, UnavailableError, as_api_error

log = logging.getLogger(__name__)

DONE: Final = "[DONE]"
HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
T = TypeVar("T")
_UNBROKEN: set[asyncio.Task[Any]] = set()


class ClientGoneError(ApiError):
    """The client went before the answer was there; nobody reads this."""

    status: ClassVar[int] = 499
    kind: ClassVar[str] = "client_closed_request"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One server-sent event; its data is JSON, or the word that ends a stream."""

    data: dict[str, Any] | str
    name: str | None = None

    def __str__(self) -> str:
        data = self.data if isinstance(self.data, str) else json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))
        return (f"event: {self.name}\n" if self.name else "") + f"data: {data}\n\n"


async def whole(request: Request, answering: Answering) -> AnswerResult:
    """The whole answer.

    Raises:
        ClientGoneError, MPlusError.
    """
    async with _watched(request, answering):
        return await finished(answering)


async def finished(answering: Answering) -> AnswerResult:
    """The whole answer, unless it was broken off.

    Raises:
        UnavailableError: the server stops, or the client is gone.
        MPlusError: what went wrong.
    """
    result = await answering.result()
    if result.finish == "cancelled":
        raise UnavailableError("the answer was broken off and nothing of it was written; ask again", retry_after_s=1)
    return result


class EventStream(StreamingResponse):
    """A response of server-sent events; an error becomes the last of them.

    Args:
        on_error: the event for an error.
        close: called when the response is at its end, whether it was sent or not.
    """

    def __init__(
        self,
        request: Request,
        answering: Answering,
        events: AsyncIterator[Event],
        on_error: Callable[[ApiError], Event],
        close: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        super().__init__(_events(request, answering, events, on_error), media_type="text/event-stream", headers=HEADERS)
        self._answering, self._close = answering, close

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:  # also where the client went before the first event
            self._answering.cancel()
            if self._close is not None:
                await unbroken(self._close())


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end also where the client goes meanwhile."""
    task = asyncio.ensure_future(work)
    _UNBROKEN.add(task)
    task.add_done_callback(_UNBROKEN.discard)
    return await asyncio.shield(task)


def error_event(error: ApiError) -> Event:
    """An error in a stream of chunks."""
    return Event(data={"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}})


def usage_json(result: AnswerResult) -> dict[str, Any]:
    """Usage of a chat or text completion; memory tokens that were read are cached tokens of the prompt."""
    prompt = result.prompt_tokens + result.memory_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": result.completion_tokens,
        "total_tokens": prompt + result.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": result.memory_tokens},
    }


async def _events(
    request: Request, answering: Answering, events: AsyncIterator[Event], on_error: Callable[[ApiError], Event]
) -> AsyncIterator[str]:
    async with _watched(request, answering) as gone:
        try:
            async for event in events:
                yield str(event)
        except Exception as error:
            if gone.is_set():
                return
            refused = as_api_error(error)
            if isinstance(refused, InternalError):
                log.error(
                    "an answer failed while it was streamed: %s", type(error).__name__
                )  # its message may hold text of a user
            yield str(on_error(refused))


@asynccontextmanager
async def _watched(request: Request, answering: Answering) -> AsyncIterator[asyncio.Event]:
    """Cancel an answer when its client goes, or when nobody waits for it any more."""
    gone = asyncio.Event()

    async def wait_until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue
        gone.set()
        answering.cancel()

    watching = asyncio.create_task(wait_until_gone())
    try:
        yield gone
    except UnavailableError:
        if gone.is_set():
            raise ClientGoneError("the client is gone") from None
        raise
    finally:
        watching.cancel()
        answering.cancel()
