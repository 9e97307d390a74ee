"""Export and import of a memory as one file."""

from __future__ import annotations

import httpx
import pytest

from mplus.server.own.transfers import TRANSFERS, clear_transfers
from mplus.server.settings import ServerSettings

pytestmark = pytest.mark.anyio
OSLO = "Alice lives in Oslo, near the old harbour, since May."


async def test_an_exported_memory_comes_back_under_another_id(client: httpx.AsyncClient, settings: ServerSettings) -> None:
    await client.post("/v1/memories/alice/sources", json={"source": "one", "text": OSLO, "note": {"by": "Ben"}})
    exported = await client.get("/v1/memories/alice/export")
    assert exported.status_code == 200
    assert exported.content.startswith(b"PK")
    assert int(exported.headers["content-length"]) == len(exported.content)
    assert "alice.mplus" in exported.headers["content-disposition"]

    binary = {"content-type": "application/octet-stream"}
    made = await client.post("/v1/memories/import", params={"id": "copy"}, content=exported.content, headers=binary)
    assert made.status_code == 201, made.text
    assert made.json()["sources"] == 1
    assert (await client.get("/v1/memories/copy/text", params={"source": "one"})).text == OSLO
    again = await client.post("/v1/memories/import", params={"id": "copy"}, content=exported.content, headers=binary)
    assert again.status_code == 409
    assert list((settings.home / TRANSFERS).iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"no archive"])
async def test_what_is_no_memory_makes_none(client: httpx.AsyncClient, settings: ServerSettings, content: bytes) -> None:
    binary = {"content-type": "application/octet-stream"}
    answer = await client.post("/v1/memories/import", params={"id": "copy"}, content=content, headers=binary)
    assert answer.status_code == 400, answer.text
    assert str(settings.home) not in answer.text
    assert (await client.get("/v1/memories/copy")).status_code == 404
    transfers = settings.home / TRANSFERS
    assert not transfers.exists() or list(transfers.iterdir()) == []


async def test_snapshot_saves(client: httpx.AsyncClient) -> None:
    await client.post("/v1/memories/alice/sources", json={"source": "one", "text": OSLO})
    saved = await client.post("/v1/memories/alice/snapshot")
    assert (saved.status_code, saved.json()["sources"]) == (200, 1)


def test_what_a_killed_server_left_is_deleted(settings: ServerSettings) -> None:
    left = settings.home / TRANSFERS / "x" / "memory.mplus"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"text of somebody")
    clear_transfers(settings.home)
    assert not left.exists()
