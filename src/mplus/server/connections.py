"""The web server and its connections: a client that sends half a request head, or no body, holds one for a bounded time."""

from __future__ import annotations

import asyncio
import socket
import time

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_S = 75.0
"""Longer than clients (5 s) and proxies (60 s) keep a connection: whoever closes first must be the one that sends."""
LARGEST_HEAD_BYTES = 32 * 1024


def server_of(app: FastAPI, *, drain_timeout_s: float) -> uvicorn.Server:
    """What serves an application at a socket; it logs nothing of requests, and has no websockets."""
    return Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=LARGEST_HEAD_BYTES,
            timeout_keep_alive=round(IDLE_S),
            timeout_graceful_shutdown=max(1, round(drain_timeout_s)),
        )
    )


class Server(uvicorn.Server):
    """Uvicorn's server, which ends streams that last as long as a job before it waits for its connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, and wait for those that are there."""
        jobs = getattr(self.config.app.state, "jobs", None)  # type: ignore[union-attr]
        if jobs is not None:
            jobs.end_watching()
        await super().shutdown(sockets)


class Connection(H11Protocol):
    """HTTP/1.1 of uvicorn, closed when no request ran on it for `IDLE_S`; uvicorn itself waits for ever for a first head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at it."""
        super().connection_made(transport)
        self._busy_at = time.monotonic()
        self._look()

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        now = time.monotonic()
        if self.cycle is not None and not self.cycle.response_complete:
            self._busy_at = now
        if now - self._busy_at >= IDLE_S:
            self.transport.close()
            return
        self.loop.call_later(IDLE_S / 4, self._look)
