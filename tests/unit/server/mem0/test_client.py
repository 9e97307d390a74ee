"""mem0's own Python client against this server: sync and async, at a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.keys import add_key
from mplus.server.settings import ServerSettings

from ..conftest import serving

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
OSLO = "Alice lives in Oslo, near the old harbour, since May."
BOAT = "Alice has a boat that she painted red in the summer."


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package, which writes below a directory of the test and tells nobody of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEM0_TELEMETRY", "False")
        patch.setenv("MEM0_DIR", str(tmp_path_factory.mktemp("mem0")))
        yield pytest.importorskip("mem0", reason="the package mem0ai is not installed")


@pytest.fixture
def keyed(text_model: MPlusModel, tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """The address of a server with keys, and the keys of two tenants."""
    keys = tmp_path / "keys.json"
    anna, ben = (add_key(keys, tenant)[1] for tenant in ("anna", "ben"))
    with serving(create_app(ServerSettings(home=tmp_path / "server", api_keys=keys), model=text_model)) as address:
        yield address, anna, ben


def test_sync_client(package: Any, keyed: tuple[str, str, str]) -> None:
    host, anna, ben = keyed
    client, other = (package.MemoryClient(api_key=key, host=host) for key in (anna, ben))
    with contextlib.closing(client.client), contextlib.closing(other.client):
        use(client, other)


def use(client: Any, other: Any) -> None:
    messages = [{"role": "user", "content": OSLO}, {"role": "assistant", "content": BOAT}]
    added = client.add(messages, user_id="alice", metadata={"topic": "home"})["results"]
    assert [one["memory"] for one in added] == [OSLO, BOAT]
    id = added[0]["id"]
    assert client.get(id)["memory"] == OSLO
    assert {one["id"] for one in client.get_all(user_id="alice")} == {one["id"] for one in added}
    paged = client.get_all(version="v2", filters={"AND": [{"user_id": "alice"}]}, page=1, page_size=1)
    assert (paged["count"], len(paged["results"])) == (2, 1)
    assert client.search("Where does Alice live?", user_id="alice")
    assert client.search("Where does Alice live?", version="v2", filters={"user_id": "alice", "topic": "home"}, top_k=1)
    assert client.search("Where does Alice live?", version="v2", filters={"user_id": "alice", "topic": "work"}) == []

    client.update(id, text="Alice lives in Bergen.")
    assert client.get(id)["memory"] == "Alice lives in Bergen."
    assert [one["event"] for one in client.history(id)] == ["ADD", "UPDATE"]
    client.batch_update([{"memory_id": added[1]["id"], "text": "Alice sold the boat."}])
    assert client.get(added[1]["id"])["memory"] == "Alice sold the boat."
    assert [(one["type"], one["name"]) for one in client.users()["results"]] == [("user", "alice")]

    assert other.get_all(user_id="alice") == []
    with pytest.raises(Exception, match="Memory not found"):
        other.get(id)
    client.delete(id)
    with pytest.raises(Exception, match="Memory not found"):
        client.get(id)
    client.batch_delete([{"memory_id": added[1]["id"]}])
    assert client.get_all(user_id="alice") == []
    client.add("Ben likes tea in the morning.", user_id="ben")
    client.add("Eve likes tea in the evening.", user_id="eve")
    client.delete_all(user_id="ben")
    assert client.get_all(user_id="ben") == []
    client.reset()
    assert client.users()["results"] == []


def test_a_wrong_key_is_told(package: Any, keyed: tuple[str, str, str]) -> None:
    with httpx.Client() as web, pytest.raises(ValueError, match="not one of the server's"):
        package.MemoryClient(api_key="mplus-wrong", host=keyed[0], client=web)


def test_async_client(package: Any, keyed: tuple[str, str, str]) -> None:
    host, anna, _ = keyed

    async def use() -> None:
        async with package.AsyncMemoryClient(api_key=anna, host=host) as client:
            added = await client.add([{"role": "user", "content": OSLO}], user_id="alice", run_id="7")
            id = added["results"][0]["id"]
            assert (await client.get(id))["run_id"] == "7"
            assert [one["memory"] for one in await client.get_all(user_id="alice")] == [OSLO]
            assert await client.search("Where does Alice live?", run_id="7")
            await client.update(id, metadata={"topic": "home"})
            assert (await client.get(id))["metadata"] == {"topic": "home"}
            assert [one["event"] for one in await client.history(id)] == ["ADD", "UPDATE"]
            await client.delete_users(run_id="7")
            assert await client.get_all(user_id="alice") == []

    asyncio.run(use())
