"""Bounds of what clients may ask: bodies by size and time, JSON by form, requests by tenant and by number. Knows no route.

A body of JSON is read whole, here, before a route sees a byte of it; other bodies (uploads) are counted as they pass.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from mplus.runtime.json_file import UnreadableJsonError, parse_json
from mplus.server.errors import ApiError, BadRequestError, BusyError, TooLargeError, UnauthorisedError
from mplus.server.keys import Principal
from mplus.server.refusal import SlowError, refusal
from mplus.server.settings import ServerSettings

log = logging.getLogger(__name__)
Clock = Callable[[], float]
SLOWEST_UPLOAD: Final = 64 * 1024
"""Bytes a second that an upload must come with, once the time for a body is over."""
LARGE_JSON: Final = 64 * 1024
"""Bytes from which a body is read in a thread."""
MOST_OF_ONE_TENANT: Final = 0.75
"""Share of the places for requests that one tenant may hold."""
LONGEST_DRAIN_S: Final = 5.0
FAILED_AT_ONCE, FAILED_PER_MINUTE, MOST_ADDRESSES = 10, 10, 10_000


class Allowance:
    """So many at once, and so many more each minute (a token bucket)."""

    def __init__(self, at_once: float, per_minute: float, clock: Clock = time.monotonic) -> None:
        self._most, self._rate, self._clock = at_once, per_minute / 60, clock
        self._left, self._at = at_once, clock()

    def take(self) -> float:
        """Take one; gives 0, or the seconds until there is one, and then nothing was taken."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._rate


class FailedKeys:
    """Wrong keys by address: after some, the address is told to wait. A right key is never made to wait, even from the same address."""

    def __init__(self, count: Callable[[], object] = lambda: None, clock: Clock = time.monotonic) -> None:
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()
        self._count, self._clock = count, clock

    def __call__(self, address: str) -> ApiError:
        """Count one; gives the error to answer with."""
        allowance = self._allowances.pop(address, None) or Allowance(FAILED_AT_ONCE, FAILED_PER_MINUTE, self._clock)
        self._allowances[address] = allowance
        if len(self._allowances) > MOST_ADDRESSES:
            self._allowances.popitem(last=False)
        self._count()
        if wait_s := allowance.take():
            return BusyError("too many wrong keys came from this address; wait", retry_after_s=wait_s)
        log.warning("a wrong key", extra={"fields": {"address": address}})
        return UnauthorisedError("this key is not one of the server's")


class Limited:
    """ASGI middleware behind the check of keys; see the module."""

    def __init__(self, app: ASGIApp, *, settings: ServerSettings, has_keys: bool, clock: Clock = time.monotonic) -> None:
        self._app, self._settings, self._has_keys, self._clock = app, settings, has_keys, clock
        self._allowances: dict[str, Allowance] = {}
        self._running: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """Requests that wait or run."""
        return self._running.total()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass on what is within its bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller: Principal | None = scope["state"].get("principal")
        body = Body(scope, receive, self._settings, self._clock)
        try:
            if caller is not None and scope["path"] not in ("/health", "/v1/health", "/ready", "/metrics"):
                self._check_rate(caller.tenant)
                self._check_places(caller.tenant)
            else:
                caller = None
            receiving = await body.checked()
        except ApiError as error:
            await self._refuse(error, body, scope, receive, send)
            return
        if caller is None:
            await self._app(scope, receiving, send)
            return
        self._running[caller.tenant] += 1
        try:
            await self._app(scope, receiving, send)
        finally:
            self._running[caller.tenant] -= 1
            if not self._running[caller.tenant]:
                del self._running[caller.tenant]

    def _check_rate(self, tenant: str) -> None:
        most = self._settings.requests_per_minute
        if most is None:
            return
        allowance = self._allowances.setdefault(tenant, Allowance(most, most, self._clock))
        if wait_s := allowance.take():
            raise BusyError(f"more than {most:,} requests in a minute; wait", retry_after_s=wait_s)

    def _check_places(self, tenant: str) -> None:
        most = self._settings.most_waiting
        if self.running >= most:
            raise BusyError(f"{most:,} requests wait or run already; try again", code="server_busy", retry_after_s=1)
        if self._has_keys and most > 1 and self._running[tenant] >= max(1, int(most * MOST_OF_ONE_TENANT)):
            raise BusyError(f"{self._running[tenant]:,} requests of yours wait or run already; try again", retry_after_s=1)

    async def _refuse(self, error: ApiError, body: Body, scope: Connection, receive: Receive, send: Send) -> None:
        """Refuse, when the client has sent what it was sending: else many would see a broken connection in the place of a sentence."""
        headers = {} if await body.drained() else {"Connection": "close"}
        await refusal(error, scope["path"], headers)(scope, receive, send)


class Body:
    """The body of one request."""

    def __init__(self, scope: Connection, receive: Receive, settings: ServerSettings, clock: Clock) -> None:
        self._receive, self._settings, self._clock = receive, settings, clock
        headers = Headers(scope=scope)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.is_json = kind == "application/json" or kind.endswith("+json")
        self.most = settings.most_body_bytes if self.is_json or not kind else settings.most_upload_bytes
        self._announced = headers.get("content-length", "")
        self._begun, self._bytes, self._ended = clock(), 0, False

    async def checked(self) -> Receive:
        """What the application receives the body by.

        Raises:
            ApiError: it is too large, too slow, or no JSON.
        """
        if self._announced.isdecimal() and int(self._announced[:20]) > self.most:
            raise self._too_large()
        if not self.is_json:
            return self._passing
        parts: list[bytes] = []
        while not self._ended:
            message = await self._next(self._settings.body_timeout_s)
            if message["type"] == "http.disconnect":
                return self._replay([message])
            parts.append(message.get("body", b""))
        content = b"".join(parts)
        if content:
            await check_json(content)
        return self._replay([{"type": "http.request", "body": content, "more_body": False}])

    async def drained(self) -> bool:
        """Take the rest of a body that is refused, within bounds; tells whether it came to its end."""
        most = self._bytes + 2 * self.most
        try:
            async with asyncio.timeout(min(LONGEST_DRAIN_S, self._settings.body_timeout_s)):
                while not self._ended and self._bytes < most:
                    self._count(await self._receive())
        except TimeoutError:
            return False
        return self._ended

    def _replay(self, messages: list[Message]) -> Receive:
        async def receive() -> Message:
            return messages.pop(0) if messages else await self._receive()

        return receive

    async def _passing(self) -> Message:
        """The next part of an upload; an error here is one that the web framework passes on."""
        if self._ended:
            return await self._receive()
        try:
            return await self._next(self._settings.body_timeout_s + self._bytes / SLOWEST_UPLOAD)
        except ApiError as error:
            raise HTTPException(error.status, error.message, {"Connection": "close"}) from None

    async def _next(self, allowed_s: float) -> Message:
        left_s = self._begun + allowed_s - self._clock()
        try:
            message = await asyncio.wait_for(self._receive(), max(left_s, 0.001))
        except TimeoutError:
            raise SlowError(f"the body did not come within {allowed_s:.0f} seconds; send it at once") from None
        self._count(message)
        if self._bytes > self.most:
            raise self._too_large()
        return message

    def _count(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"the body has more than {self.most:,} bytes; send less at once, or a file as an upload")


async def check_json(content: bytes) -> None:
    """Refuse a body that a parser takes for something else than its sender meant.

    Raises:
        BadRequestError: it is no JSON, or not UTF-8, too deep, holds NaN or a key twice.
    """
    try:
        if len(content) < LARGE_JSON:
            parse_json(content)
        else:
            await asyncio.to_thread(parse_json, content)
    except UnreadableJsonError as error:
        raise BadRequestError(f"the body cannot be read: {error}; send UTF-8 JSON", code="invalid_json") from None
