"""Bounds of requests: bodies by size, time and form; requests by tenant and number. Each over an application that says what it got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mplus.server.errors import BusyError, UnauthorisedError
from mplus.server.keys import Principal
from mplus.server.limits import FAILED_AT_ONCE, MOST_ADDRESSES, Allowance, FailedKeys, Limited
from mplus.server.settings import ServerSettings

from .conftest import LOCAL

anyio = pytest.mark.anyio


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Told:
    """An application that answers with the length of the body; it waits for ``go`` first."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        await self.go.wait()
        body = await Request(scope, receive).body()
        await JSONResponse({"bytes": len(body)})(scope, receive, send)


def limited(tmp_path: Path, *, has_keys: bool = False, clock: Any = None, **settings: Any) -> Limited:
    more = {} if clock is None else {"clock": clock}
    return Limited(Told(), settings=ServerSettings(home=tmp_path, **settings), has_keys=has_keys, **more)


def asking(app: Limited, tenant: str | None = "anna") -> httpx.AsyncClient:
    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {} if tenant is None else {"principal": Principal(tenant)}
        await app(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(named), base_url=LOCAL)


async def pieces(parts: Iterable[bytes], pause_s: float = 0) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(pause_s)
        yield part


JSON = {"Content-Type": "application/json"}

# -- size


@anyio
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_json_has_a_size(tmp_path: Path, chunked: bool) -> None:
    def content(size: int) -> Any:
        text = json.dumps("x" * (size - 2)).encode()
        return pieces([text[:700], text[700:]]) if chunked else text

    async with asking(limited(tmp_path, most_body_bytes=2048)) as client:
        good = await client.post("/v1/x", content=content(2048), headers=JSON)
        assert (good.status_code, good.json()) == (200, {"bytes": 2048})
        bad = await client.post("/v1/x", content=content(2049), headers=JSON)
        assert bad.status_code == 413
        assert "2,048 bytes" in bad.json()["error"]["message"]


@anyio
async def test_an_upload_has_a_size_of_its_own(tmp_path: Path) -> None:
    from fastapi import FastAPI

    inner = FastAPI()

    @inner.post("/v1/x")
    async def x(request: Request) -> int:
        return len(await request.body())

    app = Limited(inner, settings=ServerSettings(home=tmp_path, most_body_bytes=1024, most_upload_bytes=4096), has_keys=False)
    async with asking(app) as client:
        kind = {"Content-Type": "application/octet-stream"}
        assert (await client.post("/v1/x", content=pieces([b"x" * 2048] * 2), headers=kind)).json() == 4096
        for content in (b"x" * 4097, pieces([b"x" * 2048] * 3)):
            assert (await client.post("/v1/x", content=content, headers=kind)).status_code == 413


@anyio
@pytest.mark.parametrize("length", ["99999999999999999999999999", "1e9", "-5", "abc", "１２"])
async def test_a_length_that_is_a_lie_breaks_nothing(tmp_path: Path, length: str) -> None:
    async with asking(limited(tmp_path, most_body_bytes=1024)) as client:
        headers = [(b"Content-Type", b"application/json"), (b"Content-Length", length.encode())]
        told = await client.post("/v1/x", content=b"{}", headers=headers)
    assert told.status_code == (413 if length.startswith("9") else 200)


# -- time


@anyio
async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    app = limited(tmp_path, body_timeout_s=0.05)
    async with asking(app) as client:
        told = await client.post("/v1/x", content=pieces([b"[", b"1", b"]"], pause_s=0.04), headers=JSON)
    assert told.status_code == 408
    assert app.running == 0


# -- form


@anyio
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "deep"),
        (b"[" * 70 + b"]" * 70, "deep"),
        (b'{"a":' * 100_000, "deep"),
        (b"   ", "empty"),
        (b'{"a": 1} {"b": 2}', "not JSON"),
    ],
    ids=range(13),
)
async def test_json_that_parsers_may_read_in_two_ways_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    app = limited(tmp_path)
    async with asking(app) as client:
        told = await client.post("/v1/x", content=content, headers=JSON)
    assert (told.status_code, told.json()["error"]["code"]) == (400, "invalid_json")
    assert problem in told.json()["error"]["message"]
    assert app.running == 0


@anyio
async def test_no_body_at_all_is_no_mistake(tmp_path: Path) -> None:
    async with asking(limited(tmp_path)) as client:
        assert (await client.post("/v1/x", headers=JSON)).json() == {"bytes": 0}


# -- number


def test_an_allowance_fills_with_time() -> None:
    time = Time()
    allowance = Allowance(2, 60, time)
    assert [allowance.take() for _ in range(3)] == [0, 0, 1.0]
    time.now += 0.5
    assert allowance.take() == 0.5
    time.now += 0.5
    assert allowance.take() == 0
    time.now += 1000
    assert [allowance.take() for _ in range(3)] == [0, 0, 1.0]


@anyio
async def test_each_tenant_has_its_own_rate(tmp_path: Path) -> None:
    time = Time()
    app = limited(tmp_path, has_keys=True, clock=time, requests_per_minute=3)
    async with asking(app, "anna") as anna, asking(app, "ben") as ben:
        told = [await anna.get("/v1/x") for _ in range(4)]
        assert [one.status_code for one in told] == [200, 200, 200, 429]
        assert told[-1].json()["error"]["type"] == "rate_limit_error"
        assert told[-1].headers["retry-after"] == "20"
        assert (await ben.get("/v1/x")).status_code == 200
        time.now += 20
        assert (await anna.get("/v1/x")).status_code == 200


@anyio
async def test_so_many_requests_wait_and_no_more_and_one_tenant_leaves_room(tmp_path: Path) -> None:
    app = limited(tmp_path, has_keys=True, most_waiting=4)
    inner: Told = app._app  # type: ignore[assignment]
    inner.go.clear()
    async with asking(app, "anna") as anna, asking(app, "ben") as ben, asking(app, None) as nobody:
        held = [asyncio.create_task(anna.get("/v1/x")) for _ in range(3)]
        while inner.begun < 3:
            await asyncio.sleep(0)
        assert (await anna.get("/v1/x")).status_code == 429
        held.append(asyncio.create_task(ben.get("/v1/x")))
        while inner.begun < 4:
            await asyncio.sleep(0)
        full = await ben.get("/v1/x")
        assert (full.status_code, full.json()["error"]["code"]) == (429, "server_busy")
        assert full.headers["retry-after"] == "1"
        health = asyncio.create_task(nobody.get("/health"))
        inner.go.set()
        assert {one.status_code for one in await asyncio.gather(*held, health)} == {200}
        assert app.running == 0
        assert (await anna.get("/v1/x")).status_code == 200


@anyio
async def test_a_request_that_fails_gives_its_place_back(tmp_path: Path) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    app = Limited(failing, settings=ServerSettings(home=tmp_path, most_waiting=1), has_keys=False)
    async with asking(app) as client:
        for _ in range(3):
            with pytest.raises(RuntimeError):
                await client.get("/v1/x")
    assert app.running == 0


def test_wrong_keys_of_many_addresses_take_bounded_room() -> None:
    time, counted = Time(), [0]

    def count() -> None:
        counted[0] += 1

    failed = FailedKeys(count, time)
    assert all(isinstance(failed("::1"), UnauthorisedError) for _ in range(FAILED_AT_ONCE))
    assert isinstance(failed("::1"), BusyError)
    for n in range(MOST_ADDRESSES):
        failed(str(n))
    assert len(failed._allowances) == MOST_ADDRESSES
    assert counted == [FAILED_AT_ONCE + 1 + MOST_ADDRESSES]
