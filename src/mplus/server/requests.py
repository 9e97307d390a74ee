"""One request from its first to its last byte: its id, its line in the log, its part of the counts. Never holds what was said."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from mplus.server.errors import ApiError, UnauthorisedError, as_api_error
from mplus.server.refusal import refusal

log = logging.getLogger(__name__)
REQUEST_ID = "x-request-id"


def failed_key(address: str) -> ApiError:
    """The answer to a wrong key."""
    return UnauthorisedError("this key is not one of the server's")


class Observed:
    """The outermost ASGI middleware; an error that nobody handled ends here, as a refusal that says nothing of the inside."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = "req_" + secrets.token_hex(12)
        status: int | None = None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = state["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            log.error("%s: %s", state["request_id"], type(error).__name__)
            if status is None:
                await refusal(as_api_error(error), scope["path"])(scope, receive, sending)
