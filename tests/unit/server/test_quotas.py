"""`/v1/quota`: an operator says how many bytes a tenant may store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.keys import add_key
from mplus.server.settings import ServerSettings

from .conftest import LOCAL

pytestmark = pytest.mark.anyio


@pytest.fixture
async def clients(tmp_path: Path, text_model: MPlusModel, anyio_backend: str) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Of the tenants anna and operator; the latter is an admin."""
    keys = tmp_path / "keys.json"
    made = {tenant: add_key(keys, tenant, admin=tenant == "operator")[1] for tenant in ("anna", "operator")}
    app = create_app(ServerSettings(home=tmp_path / "server", api_keys=keys, tenant_bytes=10**9), model=text_model)
    async with app.router.lifespan_context(app):
        yield {
            tenant: httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL, headers={"X-API-Key": key})
            for tenant, key in made.items()
        }


async def write(client: httpx.AsyncClient, source: str) -> int:
    body = {"source": source, "text": f"Ana keeps an orchid in a blue pot, says the source {source}."}
    return (await client.post("/v1/memories/ana/sources", json=body)).status_code


async def test_a_quota_is_set_told_held_and_unset(clients: dict[str, httpx.AsyncClient]) -> None:
    anna, operator = clients["anna"], clients["operator"]
    assert await write(anna, "one") == 201
    first = (await operator.get("/v1/quota/anna")).json()
    assert (first["bytes"], first["is_default"]) == (10**9, True)
    assert first["used_bytes"] > 0
    told = await operator.put("/v1/quota/anna", json={"bytes": 10})
    assert (told.status_code, told.json()) == (200, {**first, "bytes": 10, "is_default": False})
    assert (await operator.get("/v1/quota")).json()["data"] == [told.json()]
    assert await write(anna, "two") == 429
    assert (await operator.delete("/v1/quota/anna")).json() == first
    assert await write(anna, "two") == 201
    assert (await operator.delete("/v1/quota/anna")).status_code == 404
    assert (await operator.get("/v1/quota")).json()["data"] == []


@pytest.mark.parametrize(
    "body", [{}, {"bytes": -1}, {"bytes": "10"}, {"bytes": 1.5}, {"bytes": 2**70}, {"bytes": 1, "more": 1}, []]
)
async def test_a_quota_that_is_none_is_refused_and_changes_nothing(clients: dict[str, httpx.AsyncClient], body: object) -> None:
    told = await clients["operator"].put("/v1/quota/anna", json=body)
    assert told.status_code == 400
    assert told.json()["error"]["message"].count("\n") == 0
    assert (await clients["operator"].get("/v1/quota")).json()["data"] == []


async def test_quotas_are_an_admins(clients: dict[str, httpx.AsyncClient]) -> None:
    for method, path in (("GET", ""), ("GET", "/anna"), ("PUT", "/anna"), ("DELETE", "/anna")):
        told = await clients["anna"].request(method, f"/v1/quota{path}", json={"bytes": 1} if method == "PUT" else None)
        assert (told.status_code, told.json()["error"]["type"]) == (403, "permission_error")
