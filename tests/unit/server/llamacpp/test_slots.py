"""llama.cpp's slots: what is saved is read again after a restore, by the tenant who saved it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mplus import MPlusModel
from mplus.server.llamacpp import SAVED
from mplus.server.settings import ServerSettings

from ..tenants import two_tenants

pytestmark = pytest.mark.anyio
OSLO = "Alice lives in Oslo, near the old harbour, since May."
BOAT = "Alice has a boat that she painted red in the summer."


async def write(client: httpx.AsyncClient, source: str, text: str) -> None:
    answer = await client.post("/v1/memories/0/sources", json={"source": source, "text": text})
    assert answer.status_code == 201, answer.text


async def slot(client: httpx.AsyncClient, action: str, filename: str | None = None) -> httpx.Response:
    body = {} if filename is None else {"filename": filename}
    return await client.post("/slots/0", params={"action": action}, json=body)


async def read(client: httpx.AsyncClient) -> set[str]:
    """Sources that an answer about the slot's memory reads."""
    answer = await client.post(
        "/v1/memories/0/trace", json={"question": "Where does Alice live?", "answer": True, "max_tokens": 2}
    )
    return {one["source"] for one in answer.json()["trace"]["passages"]}


async def test_restore_changes_what_the_next_answer_reads(client: httpx.AsyncClient) -> None:
    await write(client, "one", OSLO)
    saved = await slot(client, "save", "alice.bin")
    assert saved.status_code == 200, saved.text
    told = saved.json()
    assert (told["id_slot"], told["filename"]) == (0, "alice.bin")
    assert told["n_saved"] > 0
    assert told["n_written"] > 0
    assert told["timings"]["save_ms"] > 0

    erased = await slot(client, "erase")
    assert erased.json() == {"id_slot": 0, "n_erased": told["n_saved"]}
    await write(client, "two", BOAT)
    assert await read(client) == {"two"}

    restored = await slot(client, "restore", "alice.bin")
    assert (restored.json()["n_restored"], restored.json()["n_read"]) == (told["n_saved"], told["n_written"])
    assert await read(client) == {"one"}
    assert (await client.get("/v1/memories/0/text", params={"source": "one"})).text == OSLO
    assert [one["id"] for one in (await client.get("/slots")).json()] == ["0"]


async def test_restore_makes_a_slot_that_is_not_there(client: httpx.AsyncClient) -> None:
    await write(client, "one", OSLO)
    await slot(client, "save", "a")
    await client.delete("/v1/memories/0")
    assert (await slot(client, "restore", "a")).status_code == 200
    assert await read(client) == {"one"}


async def test_a_damaged_file_changes_nothing(client: httpx.AsyncClient, settings: ServerSettings) -> None:
    await write(client, "one", OSLO)
    await slot(client, "save", "a")
    (saved,) = (path for path in (settings.home / SAVED).rglob("*") if path.is_file())
    saved.write_bytes(saved.read_bytes()[:500])
    refused = await slot(client, "restore", "a")
    assert refused.status_code == 400
    assert str(settings.home) not in refused.text
    assert await read(client) == {"one"}


async def test_erase_by_filename_deletes_the_file_too(client: httpx.AsyncClient, settings: ServerSettings) -> None:
    await write(client, "one", OSLO)
    await slot(client, "save", "a")
    assert (await slot(client, "erase", "a")).status_code == 200
    assert (await slot(client, "restore", "a")).status_code == 404
    assert not [path for path in (settings.home / SAVED).rglob("*") if path.is_file()]


@pytest.mark.parametrize("filename", ["../keys", "a/b", "a\\b", "..", ".", "", "a\0b", "x" * 300, None])
async def test_a_name_is_no_path(client: httpx.AsyncClient, settings: ServerSettings, filename: str | None) -> None:
    await write(client, "one", OSLO)
    for action in ("save", "restore"):
        refused = await slot(client, action, filename)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["code"] == 400
    assert not (settings.home / SAVED).exists()


async def test_an_unknown_slot_and_an_unknown_action(client: httpx.AsyncClient) -> None:
    for action in ("save", "erase"):
        missing = await slot(client, action, "a")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, 404)
    assert (await slot(client, "copy", "a")).status_code == 400


async def test_another_tenant_has_other_slots_and_other_files(text_model: MPlusModel, tmp_path: Path) -> None:
    async with two_tenants(text_model, tmp_path) as (anna, ben):
        await write(anna, "one", OSLO)
        assert (await slot(anna, "save", "a")).status_code == 200
        assert (await slot(ben, "restore", "a")).status_code == 404
        assert (await ben.get("/slots")).json() == []
        await write(ben, "two", BOAT)
        await slot(ben, "save", "a")
        assert (await slot(anna, "restore", "a")).status_code == 200
        assert await read(anna) == {"one"}
