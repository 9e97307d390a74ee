"""A server of a tiny model for each test: inside the test by ASGI (``app``, ``client``), or at a real socket (``live``)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.connections import server_of
from mplus.server.settings import ServerSettings

LOCAL = "http://localhost"


@pytest.fixture
def anyio_backend() -> str:
    """Tests that are coroutines (``pytest.mark.anyio``) run in asyncio."""
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    """A home of its own, no keys; override it for others."""
    return ServerSettings(home=tmp_path / "server")


@pytest.fixture
def app(settings: ServerSettings, text_model: MPlusModel) -> FastAPI:
    """The application of a tiny model that reads text; not started."""
    return create_app(settings, model=text_model)


@pytest.fixture
async def client(app: FastAPI, anyio_backend: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the started application, without a socket: it gets an answer when this is whole."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client,
    ):
        yield client


@contextlib.contextmanager
def serving(app: FastAPI, *, drain_timeout_s: float = 5) -> Iterator[str]:
    """An application at a free port of this machine; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = server_of(app, drain_timeout_s=drain_timeout_s)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def live(app: FastAPI) -> Iterator[str]:
    """The address of the application at a real socket."""
    with serving(app) as address:
        yield address
