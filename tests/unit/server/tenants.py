"""Clients of two tenants of one server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.keys import add_key
from mplus.server.settings import ServerSettings

LOCAL = "http://localhost"


@asynccontextmanager
async def two_tenants(model: MPlusModel, home: Path) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A client with a key of the tenant "anna", and one with a key of the tenant "ben"."""
    keys = home / "keys.json"
    headers = [{"Authorization": f"Bearer {add_key(keys, tenant)[1]}"} for tenant in ("anna", "ben")]
    app = create_app(ServerSettings(home=home / "server", api_keys=keys), model=model)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=LOCAL, headers=headers[0]) as anna,
        httpx.AsyncClient(transport=transport, base_url=LOCAL, headers=headers[1]) as ben,
    ):
        yield anna, ben
