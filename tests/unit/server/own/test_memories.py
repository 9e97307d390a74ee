"""`/v1/memories`: made, listed, changed, deleted, forked, merged, by one tenant and not another."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mplus import MPlusModel

from ..tenants import two_tenants

pytestmark = pytest.mark.anyio


async def write(client: httpx.AsyncClient, memory: str, source: str, text: str) -> None:
    answer = await client.post(f"/v1/memories/{memory}/sources", json={"source": source, "text": text})
    assert answer.status_code == 201, answer.text


async def test_create_describe_change_delete(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/memories", json={"id": "alice", "metadata": {"plan": "free"}})
    assert made.status_code == 201
    assert made.json()["object"] == "memory"
    again = await client.post("/v1/memories", json={"id": "alice"})
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "conflict"

    changed = await client.patch("/v1/memories/alice", json={"metadata": {"plan": "paid"}})
    assert changed.json()["metadata"] == {"plan": "paid"}
    assert (await client.get("/v1/memories/alice")).json()["metadata"] == {"plan": "paid"}

    deleted = await client.delete("/v1/memories/alice")
    assert deleted.json() == {"id": "alice", "object": "memory.deleted", "deleted": True}
    gone = await client.get("/v1/memories/alice")
    assert gone.status_code == 404
    assert gone.json()["error"]["code"] == "memory_not_found"


async def test_a_memory_without_an_id_gets_one(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/memories", json={})).json()
    assert made["id"].startswith("mem_")
    assert (await client.get(f"/v1/memories/{made['id']}")).status_code == 200


async def test_list_pages(client: httpx.AsyncClient) -> None:
    for id in ("c", "a", "d", "b"):
        await client.post("/v1/memories", json={"id": id})
    first = (await client.get("/v1/memories", params={"limit": 3})).json()
    assert [one["id"] for one in first["data"]] == ["a", "b", "c"]
    assert (first["first_id"], first["last_id"], first["has_more"]) == ("a", "c", True)
    second = (await client.get("/v1/memories", params={"limit": 3, "after": first["last_id"]})).json()
    assert [one["id"] for one in second["data"]] == ["d"]
    assert second["has_more"] is False
    lost = await client.get("/v1/memories", params={"after": "nobody"})
    assert lost.status_code == 400
    assert lost.json()["error"]["param"] == "after"


async def test_an_id_may_hold_slashes_and_signs(client: httpx.AsyncClient) -> None:
    id = "team/alice 100% ?#é"
    assert (await client.post("/v1/memories", json={"id": id})).status_code == 201
    path = "/v1/memories/team%2Falice%20100%25%20%3F%23%C3%A9"
    assert (await client.get(path)).json()["id"] == id
    assert (await client.get("/v1/memories/team/alice")).status_code == 404
    assert (await client.delete(path)).status_code == 200


async def test_fork_is_apart(client: httpx.AsyncClient) -> None:
    await write(client, "alice", "one", "Alice lives in Oslo, near the old harbour.")
    forked = await client.post("/v1/memories/alice/fork", json={"id": "draft"})
    assert forked.status_code == 201
    await write(client, "draft", "two", "Alice has a boat that she painted red.")
    assert (await client.get("/v1/memories/alice")).json()["sources"] == 1
    assert (await client.get("/v1/memories/draft")).json()["sources"] == 2
    assert (await client.post("/v1/memories/alice/fork", json={"id": "draft"})).status_code == 409


async def test_merge_takes_in_the_other(client: httpx.AsyncClient) -> None:
    await write(client, "alice", "one", "Alice lives in Oslo, near the old harbour.")
    await write(client, "phone", "two", "Alice has a boat that she painted red.")
    merged = (await client.post("/v1/memories/alice/merge", json={"memory": "phone", "prefix": "phone/"})).json()
    assert merged["sources"] == ["phone/two"]
    text = await client.get("/v1/memories/alice/text", params={"source": "phone/two"})
    assert text.text == "Alice has a boat that she painted red."
    assert (await client.post("/v1/memories/alice/merge", json={"memory": "nobody"})).status_code == 404


async def test_another_tenant_is_told_the_same_of_a_memory_that_is_not_his_and_of_none(
    text_model: MPlusModel, tmp_path: Path
) -> None:
    async with two_tenants(text_model, tmp_path) as (anna, ben):
        await write(anna, "alice", "one", "The code of the vault is 7319.")
        assert (await ben.get("/v1/memories")).json()["data"] == []
        asked = [
            ("GET", "/v1/memories/{}", None),
            ("DELETE", "/v1/memories/{}", None),
            ("GET", "/v1/memories/{}/sources", None),
            ("GET", "/v1/memories/{}/sources/one", None),
            ("GET", "/v1/memories/{}/text?source=one", None),
            ("GET", "/v1/memories/{}/export", None),
            ("POST", "/v1/memories/{}/fork", {"id": "mine"}),
            ("POST", "/v1/memories/{}/search", {"query": "vault"}),
            ("POST", "/v1/memories/{}/trace", {"question": "vault"}),
            ("POST", "/v1/memories/{}/forget", {"sources": ["one"]}),
            ("PUT", "/v1/memories/{}/sources/one", {"text": "nothing"}),
        ]
        for method, path, body in asked:
            his = await ben.request(method, path.format("alice"), json=body)
            none = await ben.request(method, path.format("nobody"), json=body)
            assert his.status_code == none.status_code == 404, path
            assert his.text.replace("alice", "nobody") == none.text
        assert (await anna.get("/v1/memories/alice/text?source=one")).text == "The code of the vault is 7319."


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("POST", "/v1/memories", {"id": ""}, "id"),
        ("POST", "/v1/memories", {"id": "x" * 257}, "id"),
        ("POST", "/v1/memories", {"id": "a\nb"}, None),
        ("POST", "/v1/memories", {"id": "a", "metadat": {}}, "metadat"),
        ("POST", "/v1/memories", {"id": "a", "metadata": {"x": "y" * 70_000}}, "metadata"),
        ("GET", "/v1/memories?limit=0", None, "limit"),
        ("GET", "/v1/memories?limit=many", None, "limit"),
    ],
)
async def test_what_is_wrong_is_told_in_one_sentence(
    client: httpx.AsyncClient, method: str, path: str, body: object, param: str | None
) -> None:
    answer = await client.request(method, path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert param is None or error["param"] == param
    assert (await client.get("/v1/memories")).json()["data"] == []
