"""Keys: hashed in their file, compared in constant time, known to a running server at once; and who may ask without any."""

from __future__ import annotations

import hmac
import json
import os
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from mplus import MPlusModel
from mplus.errors import InputError
from mplus.server.access import check_binding, is_loopback
from mplus.server.app import create_app
from mplus.server.errors import BadRequestError
from mplus.server.keys import Keys, Principal, add_key, digest_of_key, read_keys, revoke_key
from mplus.server.settings import ServerSettings

from .conftest import LOCAL

anyio = pytest.mark.anyio


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


# -- the file


def test_a_key_is_in_its_file_as_a_hash_only_and_the_file_is_its_owners(keys: Path) -> None:
    made, key = add_key(keys, "anna")
    content = keys.read_text(encoding="utf-8")
    assert key not in content
    assert key.removeprefix("mplus-") not in content
    assert json.loads(content)["keys"][0]["digest"] == made.digest == digest_of_key(key)
    assert keys.stat().st_mode & 0o777 == 0o600
    assert len(key) >= 40


def test_two_keys_of_one_tenant_both_name_it_and_revoking_takes_one(keys: Path) -> None:
    (first, one), (_, two) = add_key(keys, "anna"), add_key(keys, "anna", admin=True)
    known = Keys(keys)
    assert known.principal(one) == Principal("anna")
    assert known.principal(two) == Principal("anna", is_admin=True)
    assert revoke_key(keys, first.id) == first
    assert known.principal(one) is None
    assert known.principal(two) == Principal("anna", is_admin=True)


def test_every_key_is_compared_whole_and_in_constant_time(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [add_key(keys, f"tenant {n}") for n in range(5)]
    known = Keys(keys)
    compared: list[str] = []
    honest = hmac.compare_digest

    def watched(a: str, b: str) -> bool:
        compared.append(b)
        return honest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    for key in ("wrong", made[0][1], made[-1][1]):
        compared.clear()
        known.principal(key)
        assert compared == [one.digest for one, _ in made]


@pytest.mark.parametrize("tenant", ["", " ", "a\nb", "x" * 257])
def test_a_tenant_that_cannot_be_one_is_refused_and_makes_no_file(keys: Path, tenant: str) -> None:
    with pytest.raises(BadRequestError, match="tenant"):
        add_key(keys, tenant)
    assert not keys.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty"),
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"version": 2, "keys": []}', "version"),
        ('{"version": 1, "keys": [{"id": "a"}]}', r"keys\.0\.tenant"),
        ('{"version": 1, "keys": [], "more": 1}', "more"),
    ],
)
def test_a_damaged_file_is_one_sentence_with_its_name(keys: Path, content: str, problem: str) -> None:
    keys.write_text(content, encoding="utf-8")
    keys.chmod(0o600)
    with pytest.raises(InputError, match=problem) as raised:
        read_keys(keys)
    assert str(keys) in str(raised.value)


def test_a_missing_file_is_told_with_the_command_that_makes_one(keys: Path) -> None:
    with pytest.raises(InputError, match="mplus serve keys add"):
        Keys(keys)


@pytest.mark.skipif(os.name != "posix", reason="a system without modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(keys: Path, mode: int) -> None:
    add_key(keys, "anna")
    keys.chmod(mode)
    with pytest.raises(InputError, match=f"chmod 600 {keys}"):
        read_keys(keys)


def test_a_file_that_becomes_unreadable_leaves_the_keys_as_they_were(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, key = add_key(keys, "anna")
    known = Keys(keys)
    keys.write_text("damaged", encoding="utf-8")
    assert known.principal(key) == Principal("anna")
    assert "the keys stay as they were" in caplog.text
    assert key not in caplog.text


# -- requests


@pytest.fixture
def guarded(keys: Path, settings: ServerSettings, text_model: MPlusModel) -> tuple[FastAPI, str, str]:
    """An application with keys, one of them, and an admin's."""
    key, admin = add_key(keys, "anna")[1], add_key(keys, "operator", admin=True)[1]
    return create_app(settings.model_copy(update={"api_keys": keys, "host": "0.0.0.0"}), model=text_model), key, admin


def asking(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://memory.example", headers=headers)


@anyio
@pytest.mark.parametrize("name", ["Authorization: Bearer ", "Authorization: bearer ", "Authorization: Token ", "X-API-Key: "])
async def test_a_key_is_taken_in_each_clients_header(guarded: tuple[FastAPI, str, str], name: str) -> None:
    app, key, _ = guarded
    header, _, kind = name.partition(": ")
    async with app.router.lifespan_context(app), asking(app, **{header: kind + key}) as client:
        assert (await client.get("/v1/memories")).status_code == 200


@anyio
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing_api_key"),
        ({"Authorization": ""}, 401, "missing_api_key"),
        ({"Authorization": "Bearer "}, 401, "invalid_api_key"),
        ({"Authorization": "Bearer wrong"}, 401, "invalid_api_key"),
        ({"Authorization": "Bearer " + "x" * 5000}, 401, "invalid_api_key"),
        ({"Authorization": "Basic YTpi"}, 401, "invalid_api_key"),
        ({"X-API-Key": "wrong"}, 401, "invalid_api_key"),
        ({"Authorization": "Bearer one", "X-API-Key": "two"}, 400, None),
    ],
)
async def test_without_a_right_key_a_request_is_refused(
    guarded: tuple[FastAPI, str, str], headers: dict[str, str], status: int, code: str | None
) -> None:
    async with asking(guarded[0], **headers) as client:
        told = await client.get("/v1/memories")
    assert (told.status_code, told.json()["error"]["code"]) == (status, code)
    assert told.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


@anyio
async def test_a_key_that_is_revoked_is_refused_from_the_next_request_on(guarded: tuple[FastAPI, str, str], keys: Path) -> None:
    app, key, _ = guarded
    async with app.router.lifespan_context(app), asking(app, Authorization=f"Bearer {key}") as client:
        assert (await client.get("/v1/memories")).status_code == 200
        revoke_key(keys, read_keys(keys)[0].id)
        assert (await client.get("/v1/memories")).status_code == 401


@anyio
async def test_metrics_are_an_admins(guarded: tuple[FastAPI, str, str]) -> None:
    app, key, admin = guarded
    async with asking(app) as client:
        told = {
            name: (await client.get("/metrics", headers={"Authorization": f"Bearer {given}"})).status_code
            for name, given in (("tenant", key), ("admin", admin), ("nobody", "wrong"))
        }
    assert told == {"tenant": 403, "admin": 200, "nobody": 401}


@anyio
async def test_who_tries_many_keys_is_told_to_wait_and_a_right_key_is_not(guarded: tuple[FastAPI, str, str]) -> None:
    app, key, _ = guarded
    async with app.router.lifespan_context(app), asking(app) as client:
        tried = [await client.get("/v1/memories", headers={"X-API-Key": f"guess {n}"}) for n in range(30)]
        assert {one.status_code for one in tried[:10]} == {401}
        assert tried[-1].status_code == 429
        assert int(tried[-1].headers["retry-after"]) >= 1
        assert (await client.get("/v1/memories", headers={"X-API-Key": key})).status_code == 200


# -- without keys


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", "localhost.example.com"])
def test_a_server_that_others_can_reach_needs_keys(settings: ServerSettings, text_model: MPlusModel, host: str) -> None:
    with pytest.raises(InputError, match="mplus serve keys add"):
        create_app(settings.model_copy(update={"host": host}), model=text_model)
    check_binding(host, has_keys=True)


def test_loopback_is_this_machine_only() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST", "a.localhost"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "localhost.example", "127.0.0.1.example", "2130706433", "10.0.0.1"]))


@anyio
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[", "10.0.0.1"])
async def test_a_name_of_elsewhere_that_resolves_to_this_machine_is_refused(app: FastAPI, host: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client:
        told = await client.get("/v1/memories", headers={"Host": host})
    assert (told.status_code, told.json()["error"]["code"]) == (403, "wrong_host")


@anyio
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({}, 200),
    ],
)
async def test_a_web_page_of_elsewhere_may_not_ask(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    assert (await client.get("/v1/memories", headers=headers)).status_code == status
    if status == 403:
        assert (await client.post("/v1/memories", json={"id": "a"}, headers=headers)).status_code == 403
        assert (await client.get("/v1/memories")).json()["data"] == []


@anyio
async def test_an_origin_that_the_operator_names_may_ask_and_no_other(settings: ServerSettings, text_model: MPlusModel) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": ("https://chat.example",)}), model=text_model)
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client,
    ):
        good = await client.options("/v1/memories", headers={"Origin": "https://chat.example", **preflight})
        assert (good.status_code, good.headers["access-control-allow-origin"]) == (200, "https://chat.example")
        told = await client.get("/v1/memories", headers={"Origin": "https://chat.example"})
        assert (told.status_code, told.headers["access-control-allow-origin"]) == (200, "https://chat.example")
        bad = await client.options("/v1/memories", headers={"Origin": "https://evil.example", **preflight})
        assert (bad.status_code, bad.headers.get("access-control-allow-origin")) == (400, None)


@anyio
async def test_no_origin_may_ask_by_default(client: httpx.AsyncClient) -> None:
    told = await client.options("/v1/memories", headers={"Origin": LOCAL, "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in told.headers


def test_a_changed_file_is_read_again(keys: Path) -> None:
    add_key(keys, "anna")
    known = Keys(keys)
    _, later = add_key(keys, "ben")
    assert known.principal(later) == Principal("ben")
    os.utime(keys, (time.time(), time.time()))
    known.refresh()
    assert known.principal(later) == Principal("ben")
