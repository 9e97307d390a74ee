"""The application: every response has an id, every error the form of its client."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

pytestmark = pytest.mark.anyio


async def test_health_is_told_with_an_id(client: httpx.AsyncClient) -> None:
    for path in ("/health", "/v1/health", "/ready"):
        told = await client.get(path)
        assert (told.status_code, told.json()) == (200, {"status": "ok"})
        assert told.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/nowhere", {"error": {"type": "invalid_request_error", "param": None, "code": "unknown_path"}}),
        ("/elsewhere", {"error": {"type": "invalid_request_error", "param": None, "code": "unknown_path"}}),
        ("/slots/nowhere/at/all", {"error": {"type": "invalid_request_error", "code": 404}}),
        ("/memories/nowhere/at/all", {}),
    ],
)
async def test_an_unknown_path_is_told_in_the_form_of_its_clients(
    client: httpx.AsyncClient, path: str, body: dict[str, dict[str, object]]
) -> None:
    told = await client.get(path)
    got = told.json()
    message = got["error"].pop("message") if "error" in got else got.pop("detail")
    assert (told.status_code, got) == (404, body)
    assert "openapi.json" in message


async def test_a_method_that_a_path_has_not_is_told_with_those_it_has(client: httpx.AsyncClient) -> None:
    told = await client.post("/health")
    assert told.status_code == 405
    assert told.headers["allow"] == "GET"
    assert told.json()["error"]["code"] == "method_not_allowed"


async def test_a_fault_says_nothing_of_the_inside(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/v1/fault")
    async def fault() -> None:
        raise RuntimeError("the secret of Ana")

    told = await client.get("/v1/fault")
    assert told.status_code == 500
    assert told.json()["error"]["code"] == "internal_error"
    assert "Ana" not in told.text
    assert told.headers["x-request-id"].startswith("req_")
