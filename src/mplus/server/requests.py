"""One request from its first to its last byte: its id, its line in the log, its part of the counts. Never holds what was said."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from mplus.errors import CapacityError, SnapshotError
from mplus.server.answers import Answering, AnswerResult, observer
from mplus.server.errors import InternalError, as_api_error
from mplus.server.keys import Principal
from mplus.server.logs import frames_of
from mplus.server.metrics import METHODS, Metrics
from mplus.server.refusal import refusal
from mplus.server.scope import digest_of

log = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"
QUIET = frozenset({"/health", "/v1/health", "/ready", "/metrics"})
"""Routes that are asked every few seconds; a line for each would hide the others."""
CLIENT_GONE = 499
"""The status in logs and counts where the client went before an answer began, as nginx has it."""


@dataclass
class Served:
    """What is known of a request while it is served."""

    id: str
    metrics: Metrics
    begun_s: float = field(default_factory=time.monotonic)
    status: int | None = None
    tokens: dict[str, int] = field(default_factory=dict)

    def answer(self, answering: Answering, result: AnswerResult | None) -> None:
        """Take in an answer that was made for it."""
        self.metrics.answer(answering, result)
        if result is not None:
            for name in ("prompt_tokens", "completion_tokens", "memory_tokens"):
                self.tokens[name] = self.tokens.get(name, 0) + getattr(result, name)


class Observed:
    """The outermost ASGI middleware; an error that nobody handled ends here, as a refusal that says nothing of the inside."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        served = Served("req_" + secrets.token_hex(12), self._metrics)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = served.id

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                served.status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = served.id
            await send(message)

        token = observer.set(served.answer)
        self._metrics.running.inc()
        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            state["error"] = error
            if served.status is None:
                await refusal(as_api_error(error), scope["path"])(scope, receive, sending)
        finally:
            observer.reset(token)
            self._metrics.running.dec()
            self._end(served, scope, state)

    def _end(self, served: Served, scope: Connection, state: Mapping[str, Any]) -> None:
        seconds = time.monotonic() - served.begun_s
        route, status = route_of(scope), served.status or CLIENT_GONE
        self._metrics.request(route, scope["method"], status, seconds)
        caller: Principal | None = state.get("principal")
        fields = {
            "request": served.id,
            "tenant": None if caller is None else caller.tenant,
            "route": route,
            "method": scope["method"] if scope["method"] in METHODS else "other",
            "status": status,
            "ms": round(seconds * 1000, 1),
            **_hashed_id(scope, caller),
            **served.tokens,
            **_reason(state.get("error")),
        }
        log.log(level_of(route, status), "request", extra={"fields": fields})


def level_of(route: str, status: int) -> int:
    """How loud a request is told: a probe that is answered only to those who debug, one that finds no model yet is no error."""
    is_probe = route in QUIET
    if status >= 500 and not (is_probe and status == 503):
        return logging.ERROR
    return logging.DEBUG if is_probe and status < 400 else logging.INFO


def route_of(scope: Connection) -> str:
    """The template of the path that was asked; paths themselves hold ids."""
    return str(getattr(scope.get("route"), "path", None) or "none")


def _hashed_id(scope: Connection, caller: Principal | None) -> dict[str, str]:
    """The first id of the path, hashed as directories are named: lines about one memory can be told to be that."""
    first = next((str(value) for value in scope.get("path_params", {}).values()), None)
    return {} if first is None or caller is None else {"id_hash": digest_of(caller.tenant, first)[:12]}


def _reason(error: Exception | None) -> dict[str, Any]:
    """What an operator is told of an error; the package's messages about stored data name files, others may hold a user's text."""
    if error is None:
        return {}
    if isinstance(error, SnapshotError | CapacityError):
        return {"error": type(error).__name__, "reason": str(error)}
    if isinstance(as_api_error(error), InternalError):
        kind, frames = frames_of(error)
        return {"error": kind, "frames": frames}
    return {"error": type(error).__name__}
