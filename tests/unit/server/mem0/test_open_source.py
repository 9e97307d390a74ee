"""The paths of mem0's open-source server: added verbatim, listed, changed, searched, and really deleted."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from mplus import MPlusModel

from ..tenants import two_tenants

pytestmark = pytest.mark.anyio
OSLO = "Alice lives in Oslo, near the old harbour, since May."
BOAT = "Alice has a boat that she painted red in the summer."


async def add(client: httpx.AsyncClient, text: str, **more: Any) -> str:
    body = {"messages": [{"role": "user", "content": text}], **({"user_id": "alice"} | more)}
    answer = await client.post("/memories", json=body)
    assert answer.status_code == 200, answer.text
    (added,) = answer.json()["results"]
    assert (added["memory"], added["event"]) == (text, "ADD")
    return str(added["id"])


async def listed(client: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = await client.get("/memories", params=params)
    assert answer.status_code == 200, answer.text
    return [one["memory"] for one in answer.json()["results"]]


def holding(home: Path, text: str) -> list[Path]:
    """Files that hold a text, as UTF-8 or as the tiny tokenizer's ids (a byte each) of four or eight bytes."""
    needles = [text.encode(), *("".join(re.escape(letter) + "\0" * (size - 1) for letter in text).encode() for size in (2, 4, 8))]
    return [path for path in home.rglob("*") if path.is_file() and any(one in path.read_bytes() for one in needles)]


async def test_each_message_is_a_memory_of_its_own(client: httpx.AsyncClient) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": OSLO},
        {"role": "assistant", "content": [{"type": "text", "text": BOAT}]},
    ]
    added = (
        await client.post("/memories", json={"messages": messages, "user_id": "alice", "metadata": {"topic": "home"}})
    ).json()
    assert [(one["memory"], one["role"]) for one in added["results"]] == [(OSLO, "user"), (BOAT, "assistant")]
    one = (await client.get(f"/memories/{added['results'][0]['id']}")).json()
    assert (one["memory"], one["metadata"], one["user_id"]) == (OSLO, {"topic": "home"}, "alice")
    assert one["hash"] == hashlib.md5(OSLO.encode()).hexdigest()
    assert one["created_at"]
    assert one["updated_at"] is None


async def test_a_text_may_be_sent_without_messages(client: httpx.AsyncClient) -> None:
    for body in ({"text": OSLO}, {"messages": OSLO}, {"messages": {"role": "user", "content": OSLO}}):
        assert (await client.post("/memories", json={**body, "agent_id": "bot"})).status_code == 200
    assert await listed(client, agent_id="bot") == [OSLO] * 3


async def test_listing_takes_all_that_have_the_ids(client: httpx.AsyncClient) -> None:
    await add(client, "one for alice")
    await add(client, "two for alice in run 7", run_id="7")
    await add(client, "three for ben", user_id="ben")
    assert set(await listed(client, user_id="alice")) == {"one for alice", "two for alice in run 7"}
    assert await listed(client, user_id="alice", run_id="7") == ["two for alice in run 7"]
    assert await listed(client, run_id="7") == ["two for alice in run 7"]
    assert await listed(client, user_id="alice", agent_id="") == await listed(client, user_id="alice")
    nobody = await client.get("/memories")
    assert nobody.status_code == 400
    assert "user_id" in nobody.json()["detail"]


async def test_listing_pages_newest_first_and_filters_by_metadata(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await add(client, f"note {number} of alice", metadata={"even": number % 2 == 0}, timestamp=1000 + number)
    assert await listed(client, user_id="alice", limit=2, page=2) == ["note 2 of alice", "note 1 of alice"]
    even = await listed(client, user_id="alice", filters='{"even": true}')
    assert even == ["note 4 of alice", "note 2 of alice", "note 0 of alice"]


async def test_update_leaves_nothing_of_the_text_before(client: httpx.AsyncClient) -> None:
    id = await add(client, OSLO, metadata={"topic": "home"})
    changed = await client.put(f"/memories/{id}", json={"text": BOAT})
    assert changed.status_code == 200, changed.text
    one = (await client.get(f"/memories/{id}")).json()
    assert (one["id"], one["memory"], one["metadata"]) == (id, BOAT, {"topic": "home"})
    assert one["updated_at"] is not None
    only = await client.put(f"/memories/{id}", json={"metadata": {"topic": "sea"}})
    assert (only.json()["memory"], only.json()["metadata"]) == (BOAT, {"topic": "sea"})
    assert (await client.put(f"/memories/{id}", json={})).status_code == 400
    assert OSLO not in (await client.get(f"/memories/{id}/history")).text


async def test_history_has_events_and_only_the_text_of_now(client: httpx.AsyncClient) -> None:
    id = await add(client, OSLO)
    await client.put(f"/memories/{id}", json={"text": BOAT})
    told = (await client.get(f"/memories/{id}/history")).json()
    assert [(one["event"], one["new_memory"]) for one in told] == [("ADD", None), ("UPDATE", BOAT)]
    await client.delete(f"/memories/{id}")
    told = (await client.get(f"/memories/{id}/history")).json()
    assert [one["event"] for one in told] == ["ADD", "UPDATE", "DELETE"]
    assert all(one["new_memory"] is None and one["old_memory"] is None for one in told)
    assert told[-1]["is_deleted"] is True


async def test_search_finds_memories_by_score(client: httpx.AsyncClient) -> None:
    for number in range(6):
        text = f"{OSLO if number == 2 else BOAT} This is page {number} of the diary of Alice."
        await add(client, text, metadata={"page": number})
    asked = {"query": "Where does Alice live?", "filters": {"user_id": "alice"}, "top_k": 3}
    found = (await client.post("/search", json=asked)).json()["results"]
    assert 1 <= len(found) <= 3
    assert [one["score"] for one in found] == sorted((one["score"] for one in found), reverse=True)
    assert all(one["memory"].endswith("of the diary of Alice.") for one in found)
    assert (await client.post("/memories/search", json=asked)).json()["results"] == found

    best = found[0]["score"]
    over = (await client.post("/search", json={**asked, "threshold": best})).json()["results"]
    assert [one["id"] for one in over] == [found[0]["id"]]
    pages = {"filters": {"AND": [{"user_id": "alice"}, {"page": found[0]["metadata"]["page"]}]}}
    assert [one["id"] for one in (await client.post("/search", json={**asked, **pages})).json()["results"]] == [found[0]["id"]]
    assert (await client.post("/search", json={**asked, "filters": {"user_id": "nobody"}})).json() == {"results": []}
    assert (await client.post("/search", json={"query": "x"})).status_code == 400


async def test_deleted_is_gone_from_everywhere(client: httpx.AsyncClient, settings: Any) -> None:
    kept, gone = await add(client, BOAT), await add(client, OSLO)
    assert holding(settings.home, "the old harbour"), "the search of this test finds what is there"
    assert (await client.delete(f"/memories/{gone}")).status_code == 200
    assert (await client.get(f"/memories/{gone}")).status_code == 404
    assert (await client.delete(f"/memories/{gone}")).status_code == 404
    assert await listed(client, user_id="alice") == [BOAT]
    found = await client.post("/search", json={"query": "Where does Alice live?", "user_id": "alice"})
    assert [one["id"] for one in found.json()["results"]] in ([kept], [])
    assert (await client.get("/v1/memories/alice/text", params={"source": gone})).status_code == 404
    assert not holding(settings.home, "the old harbour")


async def test_delete_by_owner_needs_one_and_touches_no_other(client: httpx.AsyncClient) -> None:
    await add(client, "one for alice")
    await add(client, "two for alice in run 7", run_id="7")
    await add(client, "three for ben", user_id="ben")
    everybody = await client.delete("/memories")
    assert everybody.status_code == 400
    assert (await client.delete("/memories", params={"user_id": ""})).status_code == 400
    assert (await client.delete("/memories", params={"run_id": "7"})).status_code == 200
    assert await listed(client, user_id="alice") == ["one for alice"]
    assert (await client.delete("/memories", params={"user_id": "alice"})).status_code == 200
    assert await listed(client, user_id="alice") == []
    assert await listed(client, user_id="ben") == ["three for ben"]


async def test_entities_are_counted_and_deleted(client: httpx.AsyncClient) -> None:
    await add(client, "one for alice")
    await add(client, "two for alice in run 7/8", run_id="7/8")
    told = (await client.get("/entities")).json()
    assert [(one["type"], one["id"], one["total_memories"]) for one in told] == [("run", "7/8", 1), ("user", "alice", 2)]
    assert (await client.delete("/entities/run/7%2F8")).json() == {"message": "Entity deleted"}
    assert [one["id"] for one in (await client.get("/entities")).json()] == ["alice"]
    assert (await client.delete("/entities/planet/mars")).status_code == 422


async def test_reset_is_of_one_tenant_only(text_model: MPlusModel, tmp_path: Path) -> None:
    async with two_tenants(text_model, tmp_path) as (anna, ben):
        id = await add(anna, OSLO)
        await add(ben, BOAT)
        for method, path, body in (
            ("GET", "/memories/{}", None),
            ("PUT", "/memories/{}", {"text": "nothing"}),
            ("DELETE", "/memories/{}", None),
            ("GET", "/memories/{}/history", None),
        ):
            his = await ben.request(method, path.format(id), json=body)
            none = await ben.request(method, path.format("0b0f0e39-6f3b-4f0e-8d3f-0d8a5c5b7b11"), json=body)
            assert (his.status_code, his.text) == (none.status_code, none.text) == (404, '{"detail":"Memory not found"}')
        assert [one["total_memories"] for one in (await ben.get("/entities")).json()] == [1]
        found = (await ben.post("/search", json={"query": "Where does Alice live?", "user_id": "alice"})).text
        assert "Oslo" not in found
        assert (await ben.post("/reset")).status_code == 200
        assert await listed(ben, user_id="alice") == []
        assert await listed(anna, user_id="alice") == [OSLO]


async def test_what_others_wrote_into_a_memory_is_not_mem0s(client: httpx.AsyncClient) -> None:
    await client.post("/v1/memories/alice/sources", json={"source": "diary", "text": BOAT})
    forged = {"source": "forged", "text": BOAT, "note": {"kind": "mem0", "created_at": "soon"}}
    await client.post("/v1/memories/alice/sources", json=forged)
    await add(client, OSLO)
    assert await listed(client, user_id="alice") == [OSLO]
    assert (await client.delete("/memories", params={"user_id": "alice"})).status_code == 200
    names = [one["name"] for one in (await client.get("/v1/memories/alice/sources")).json()["data"]]
    assert names == ["diary", "forged"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"messages": [{"role": "user", "content": OSLO}]}, 400, "user_id"),
        ({"user_id": "alice"}, 400, "nothing to keep"),
        ({"user_id": "alice", "messages": []}, 400, "nothing to keep"),
        ({"user_id": "alice", "messages": [{"role": "user", "content": " "}]}, 400, "empty"),
        ({"user_id": "alice", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "image_url"),
        ({"user_id": "alice", "text": OSLO, "expiration_date": "2027-01-01"}, 400, "expiration_date"),
        ({"user_id": "alice", "text": OSLO, "metadata": {"x": "y" * 70_000}}, 400, "metadata"),
        ({"user_id": "a\tb", "text": OSLO}, 400, "printable"),
        ({"user_id": 7, "text": OSLO}, 422, "user_id"),
        ({"user_id": "x" * 300, "text": OSLO}, 422, "user_id"),
        ({"user_id": "alice", "text": OSLO, "timestamp": -1}, 422, "timestamp"),
    ],
)
async def test_what_cannot_be_kept_is_told_in_one_sentence(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = await client.post("/memories", json=body)
    assert answer.status_code == status, answer.text
    assert sentence in answer.json()["detail"]
    assert (await client.get("/entities")).json() == []
