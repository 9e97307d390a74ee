"""Attacks on a server: what is refused, that it says nothing of others, and that it goes on afterwards."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from fastapi import FastAPI

from mplus import MPlusModel
from mplus.server import connections
from mplus.server.access import PUBLIC, PUBLIC_BELOW
from mplus.server.app import create_app
from mplus.server.keys import add_key
from mplus.server.refusal import below
from mplus.server.settings import ServerSettings

from .conftest import LOCAL, serving

anyio = pytest.mark.anyio
SECRET = "Ana keeps an orchid in a blue pot on the roof."
BODIES: dict[str, Any] = {
    "fork": {"id": "taken"},
    "merge": {"memory": "ID"},
    "search": {"query": "orchid"},
    "trace": {"question": "Where is the orchid?", "answer": False},
    "forget": {"pattern": "*"},
    "sources": {"source": "own", "text": "A text of Ben that is long enough."},
    "items": {"items": [{"type": "message", "role": "user", "content": "a text of Ben"}]},
    "{memory}": {"metadata": {}},
    "{source}": {"text": "A text of Ben that is long enough.", "note": {}},
    "{conversation_id}": {"metadata": {}},
    "{memory_id}": {"text": "A text of Ben that is long enough.", "data": "A text of Ben that is long enough."},
}
"""By the last word of a path, what a request for it says."""


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and template of every route, those that the OpenAPI page leaves out as well."""

    def below_of(routers: Any, prefix: str) -> Iterator[tuple[str, str]]:
        for route in routers:
            inner = getattr(route, "original_router", None)
            if inner is not None:
                yield from below_of(inner.routes, prefix)
            elif hasattr(route, "methods"):
                yield from ((method, prefix + route.path) for method in sorted(route.methods or ()))

    yield from below_of(app.routes, "")
    for path, operations in app.openapi()["paths"].items():
        yield from ((method.upper(), path) for method in operations)


def is_public(path: str) -> bool:
    return path in PUBLIC or below(path, PUBLIC_BELOW)


def filled(template: str, ids: dict[str, str]) -> str:
    """A path with ids in it."""
    for name, value in ids.items():
        template = template.replace("{" + name + "}", quote(value, safe="")).replace("{" + name + ":path}", quote(value, safe=""))
    return template


# -- keys


@anyio
async def test_every_route_needs_a_key_but_health_and_the_page(
    tmp_path: Path, settings: ServerSettings, text_model: MPlusModel
) -> None:
    add_key(tmp_path / "keys.json", "anna")
    app = create_app(settings.model_copy(update={"api_keys": tmp_path / "keys.json"}), model=text_model)
    checked = set()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client:
        for method, template in set(routes(app)):
            path = template.replace("{", "").replace("}", "").replace(":path", "")
            if is_public(path):
                continue
            told = await client.request(method, path)
            assert told.status_code == 401, (method, template)
            assert told.headers["www-authenticate"] == "Bearer"
            checked.add(template)
    assert {"/openapi.json", "/metrics", "/v1/memories", "/v1/chat/completions", "/memories", "/v1/quota"} <= checked
    assert len(checked) > 40


@pytest.mark.parametrize(
    "path",
    ["/page/../v1/memories", "/page/%2e%2e/v1/memories", "/page%2f..%2fv1%2fmemories", "//v1/memories", "/health/../v1/memories"],
)
def test_no_spelling_of_a_path_goes_round_the_key(
    tmp_path: Path, settings: ServerSettings, text_model: MPlusModel, path: str
) -> None:
    add_key(tmp_path / "keys.json", "anna")
    app = create_app(settings.model_copy(update={"api_keys": tmp_path / "keys.json"}), model=text_model)
    with serving(app) as address:
        answer = raw(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"401", b"404")
    assert b'"data"' not in answer


# -- other tenants


@pytest.fixture
async def tenants(
    tmp_path: Path, text_model: MPlusModel, anyio_backend: str
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient, httpx.AsyncClient]]:
    """An application, a client of Anna and one of Ben."""
    keys = tmp_path / "keys.json"
    made = [add_key(keys, tenant)[1] for tenant in ("anna", "ben")]
    app = create_app(ServerSettings(home=tmp_path / "server", api_keys=keys), model=text_model)
    async with app.router.lifespan_context(app):
        clients = [
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL, headers={"X-API-Key": key}) for key in made
        ]
        yield app, clients[0], clients[1]


async def ids_of(anna: httpx.AsyncClient) -> dict[str, str]:
    """Ids of everything that Anna has, by the name that paths give them."""
    model = (await anna.get("/v1/models")).json()["data"][0]["id"]
    await anna.post("/v1/memories/ana/sources", json={"source": "note", "text": SECRET * 2})
    job = (await anna.post("/v1/memories/ana/sources", params={"wait": "false"}, json={"source": "long", "text": SECRET})).json()
    items = [{"type": "message", "role": "user", "content": SECRET}]
    conversation = (await anna.post("/v1/conversations", json={"items": items})).json()
    item = (await anna.get(f"/v1/conversations/{conversation['id']}/items")).json()["data"][0]
    response = (await anna.post("/v1/responses", json={"model": model, "input": "Hello", "max_output_tokens": 16})).json()
    memory = {"messages": [{"role": "user", "content": SECRET}], "user_id": "ana"}
    added = (await anna.post("/memories", json=memory)).json()["results"][0]
    return {
        "memory": "ana",
        "source": "note",
        "job": job["id"],
        "conversation_id": conversation["id"],
        "item_id": item["id"],
        "response_id": response["id"],
        "memory_id": added["id"],
        "entity_type": "user",
        "entity_id": "ana",
    }


def others(ids: dict[str, str]) -> dict[str, str]:
    """Ids of the same form that nobody has."""
    return {
        name: value
        if name == "entity_type"
        else value[:-4] + ("beef" if value[-4:] != "beef" else "dead")
        if len(value) > 8
        else "no" + value
        for name, value in ids.items()
    }


async def asked(client: httpx.AsyncClient, method: str, template: str, ids: dict[str, str]) -> tuple[int, str]:
    """Status and body, without the ids that were asked for."""
    body = BODIES.get(template.rstrip("/").rsplit("/", 1)[-1])
    given = None if method in ("GET", "HEAD", "DELETE") else json.loads(json.dumps(body or {}).replace("ID", ids["memory"]))
    asks = {"source": ids["source"]} if template.endswith("/text") else {}
    told = await client.request(method, filled(template, ids), json=given, params=asks)
    text = told.text
    for name in sorted(ids, key=lambda one: -len(ids[one])):
        text = text.replace(ids[name], "ID")
    return told.status_code, text


@anyio
async def test_every_route_tells_another_tenant_the_same_of_an_id_as_of_none(
    tenants: tuple[FastAPI, httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    app, anna, ben = tenants
    ids = await ids_of(anna)
    nobody, checked = others(ids), 0
    for method, template in sorted(set(routes(app))):
        if "{" not in template or is_public(template) or (method in ("HEAD", "POST", "PUT", "PATCH") and "sources" in template):
            continue
        got, expected = await asked(ben, method, template, ids), await asked(ben, method, template, nobody)
        assert got == expected, (method, template)
        assert "orchid" not in got[1]
        if method == "GET" and got[0] != 200:
            assert got[0] in (403, 404), (template, got)
        checked += 1
    assert checked > 25
    assert (await anna.get("/v1/memories/ana/text", params={"source": "note"})).text == SECRET * 2
    assert (await anna.get(f"/memories/{ids['memory_id']}")).json()["memory"] == SECRET
    assert (await anna.get(f"/v1/conversations/{ids['conversation_id']}")).status_code == 200


@anyio
async def test_bodies_and_headers_name_no_memory_of_another_tenant(
    tenants: tuple[FastAPI, httpx.AsyncClient, httpx.AsyncClient],
) -> None:
    _, anna, ben = tenants
    ids = await ids_of(anna)
    model = (await ben.get("/v1/models")).json()["data"][0]["id"]
    messages = {"model": model, "messages": [{"role": "user", "content": "Where?"}], "max_tokens": 4}
    said = {"model": model, "input": "Where?", "max_output_tokens": 16}
    for path, body, headers in (
        ("/v1/chat/completions", {**messages, "memory": {"id": "ana", "write": "none"}}, {}),
        ("/v1/chat/completions", messages, {"X-Memory-Id": "ana"}),
        ("/v1/responses", {**said, "previous_response_id": ids["response_id"]}, {}),
        ("/v1/responses", {**said, "conversation": ids["conversation_id"]}, {}),
        ("/v1/memories/own/merge", {"memory": "ana"}, {}),
    ):
        await ben.post("/v1/memories", json={"id": "own"})
        told = await ben.post(path, json=body, headers=headers)
        assert told.status_code == 404 or (told.status_code == 200 and "orchid" not in told.text), (path, told.text)
        if "ana" not in json.dumps(body) + json.dumps(headers):
            assert told.status_code == 404, (path, told.text)
    for path in ("/search", "/memories/search"):
        found = await ben.post(path, json={"query": "orchid", "user_id": "ana", "filters": {"user_id": "ana"}})
        assert "blue pot" not in found.text
    for path in ("/v1/memories", "/memories?user_id=ana", "/entities", "/v1/jobs"):
        listed = await ben.get(path)
        assert "orchid" not in listed.text
        assert ids["memory_id"] not in listed.text
        assert ids["job"] not in listed.text


# -- paths


@anyio
@pytest.mark.parametrize(
    "name",
    [
        "../../escaped",
        "..",
        ".",
        "a/../../b",
        "..\\..\\b",
        "/etc/passwd",
        "~root",
        "CON",
        "a" * 256,
        "%2e%2e%2f",
        "京/../é",
        "-rf",
    ],
)
async def test_no_id_is_a_path(client: httpx.AsyncClient, tmp_path: Path, name: str) -> None:
    (tmp_path / "watched").mkdir()
    made = await client.post("/v1/memories", json={"id": name})
    assert (made.status_code, made.json()["id"]) == (201, name)
    path = f"/v1/memories/{quote(name, safe='')}" if name.strip(".") else None  # clients resolve dots before they ask
    if path is not None:
        assert (await client.post(f"{path}/sources", json={"source": name, "text": SECRET})).status_code == 201
        assert (await client.get(path)).json()["id"] == name
    assert sorted(one.name for one in tmp_path.iterdir()) == ["server", "watched"]
    words = [part for part in name.replace("\\", "/").split("/") if len(part) > 2]
    for file in (tmp_path / "server").rglob("*"):
        assert not any(word in str(file.relative_to(tmp_path)) for word in words), file


@anyio
@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "a" * 257, "\u202e", 5, None, ["a"], {"a": 1}])
async def test_what_cannot_be_an_id_makes_nothing(client: httpx.AsyncClient, name: object) -> None:
    body = {"messages": [{"role": "user", "content": SECRET}], "user_id": name}
    told = [await client.post("/v1/memories/x/fork", json={"id": name}), await client.post("/memories", json=body)]
    assert {one.status_code for one in told} <= {400, 404, 422}, [one.text for one in told]
    assert (await client.get("/v1/memories")).json()["data"] == []


def test_the_page_gives_no_file_but_its_own(live: str) -> None:
    for path in (
        "/page/../settings.py",
        "/page/..%2fsettings.py",
        "/page/%2e%2e/settings.py",
        "/page//etc/passwd",
        "/page/__init__.py",
    ):
        answer = raw(live, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert b" 404 " in answer.split(b"\r\n")[0], path
        assert b"import" not in answer


# -- HTTP itself


def raw(address: str, sent: bytes, *, timeout_s: float = 20) -> bytes:
    """All that a server says to some bytes until it closes, or says nothing more."""
    place = urlsplit(address)
    got = b""
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=timeout_s) as connection:
        connection.sendall(sent)
        try:
            while piece := connection.recv(65536):
                got += piece
        except (TimeoutError, ConnectionError):
            pass
    return got


HEAD = b"POST /v1/memories HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def test_a_head_that_is_no_http_is_refused_and_the_server_goes_on(live: str) -> None:
    for sent in (
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A\x01: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /he\x00alth HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"\x00" * 1000,
    ):
        answer = raw(live, sent)
        assert answer.split(b" ")[1] in (b"400", b"431"), (sent[:80], answer[:80])
        assert httpx.get(live + "/health").status_code == 200


def test_headers_beyond_reason_break_nothing(live: str) -> None:
    for headers in (
        {"Authorization": "Bearer " + "x" * 20_000},
        {"Content-Type": "application/json; charset=" + "x" * 5000},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "multipart/form-data; boundary=" + "x" * 5000},
        {"Accept": "*/*" * 2000},
        {"Range": "bytes=0-99999999999"},
        {"X-Forwarded-For": "1.2.3.4, " * 500 + "1.2.3.4"},
        {"X-Request-Id": "req_of_mine"},
        {"Expect": "200-ok"},
    ):
        told = httpx.post(live + "/v1/memories/a/sources", content=b"{", headers=headers)
        assert 400 <= told.status_code < 500, (headers, told.text)
        assert told.headers["x-request-id"].startswith("req_")
        assert told.headers["x-request-id"] != "req_of_mine"
    assert httpx.get(live + "/v1/memories").json()["data"] == []


def test_a_body_beyond_its_size_is_told_so_at_a_socket(settings: ServerSettings, text_model: MPlusModel) -> None:
    app = create_app(settings.model_copy(update={"most_body_bytes": 100_000, "most_upload_bytes": 200_000}), model=text_model)
    with serving(app) as address:
        for kind, size in (("application/json", 150_000), ("application/octet-stream", 300_000), ("text/plain", 300_000)):

            def content(size: int = size) -> Iterator[bytes]:
                for _ in range(size // 10_000):
                    yield b" " * 10_000

            for body in (b" " * size, content()):
                told = httpx.post(address + "/v1/memories/import?id=a", content=body, headers={"Content-Type": kind})
                assert told.status_code == 413, (kind, told.text)
                assert "bytes" in told.json()["error"]["message"]
        assert httpx.get(address + "/health").status_code == 200


def test_a_body_that_drips_is_ended(settings: ServerSettings, text_model: MPlusModel) -> None:
    app = create_app(settings.model_copy(update={"body_timeout_s": 0.5}), model=text_model)
    with serving(app) as address:
        answer = raw(address, HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    assert answer.split(b" ")[1] == b"408"


def test_a_connection_that_says_nothing_is_closed(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.3)
    for sent in (b"", b"GET /health HTTP/1.1\r\nHost: loc"):
        begun = time.monotonic()
        raw(live, sent, timeout_s=30)
        assert time.monotonic() - begun < 29, "the server did not close it"


# -- JSON

MEANINGLESS: list[Any] = [
    *([], 1, "text", None),
    *({"model": []}, {"messages": {}}, {"id": {"$ne": 1}}, {"input": 5}, {"metadata": [1]}),
]


@anyio
async def test_values_that_no_endpoint_means_are_refused_with_a_sentence(client: httpx.AsyncClient) -> None:
    for path in ("/v1/memories", "/v1/chat/completions", "/v1/responses", "/v1/conversations", "/memories", "/search"):
        for body in MEANINGLESS:
            told = await client.post(path, json=body)
            if told.status_code < 400:
                continue
            answer = told.json()
            message = answer["detail"] if "detail" in answer else answer["error"]["message"]
            assert told.status_code in (400, 404, 422), (path, body, told.text)
            assert isinstance(message, str)
            assert "\n" not in message


@anyio
async def test_half_a_character_is_no_fault_of_the_server(client: httpx.AsyncClient) -> None:
    for path, body in (
        ("/v1/memories/a/sources", b'{"source": "a", "text": "half \\ud83d of a sign, and more text"}'),
        ("/v1/memories", b'{"id": "\\ud83d"}'),
        ("/memories", b'{"messages": [{"role": "user", "content": "\\ud83d"}], "user_id": "\\ud83d"}'),
    ):
        told = await client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert told.status_code < 500, (path, told.text)
