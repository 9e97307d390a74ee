"""Laws of isolation: what is another tenant's is told exactly as what is not there."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from openai import OpenAI

from mplus.server.scope import Scope
from tests.unit.server.openai.conftest import Server

ASK: dict[str, Any] = {"max_output_tokens": 4}


@pytest.fixture
def secrets(server: Server, client: OpenAI) -> dict[str, str]:
    """Ids of Ana's."""
    made = client.conversations.create(items=[{"role": "user", "content": "The word is heron."}])
    told = client.responses.create(model=server.engine.model.name, input="Hello", conversation=made.id, **ASK)
    memory = f"ana-{uuid.uuid4()}"
    server.run(server.engine.write(Scope("ana", memory), "The word is heron.", source="word"))
    item = client.conversations.items.list(made.id, order="asc").data[0].id
    return {"conversation": made.id, "response": told.id, "item": item or "", "memory": memory}


ROUTES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/responses/{response}", None),
    ("GET", "/responses/{response}/input_items", None),
    ("POST", "/responses/{response}/cancel", None),
    ("DELETE", "/responses/{response}", None),
    ("GET", "/conversations/{conversation}", None),
    ("POST", "/conversations/{conversation}", {"metadata": {}}),
    ("DELETE", "/conversations/{conversation}", None),
    ("GET", "/conversations/{conversation}/items", None),
    ("POST", "/conversations/{conversation}/items", {"items": [{"role": "user", "content": "x"}]}),
    ("GET", "/conversations/{conversation}/items/{item}", None),
    ("DELETE", "/conversations/{conversation}/items/{item}", None),
    ("POST", "/responses", {"input": "x", "previous_response_id": "{response}"}),
    ("POST", "/responses", {"input": "x", "conversation": "{conversation}"}),
    ("POST", "/chat/completions", {"messages": [{"role": "user", "content": "x"}], "conversation": "{conversation}"}),
    ("POST", "/chat/completions", {"messages": [{"role": "user", "content": "x"}], "memory": {"id": "{memory}"}}),
    ("POST", "/completions", {"prompt": "x", "memory": {"id": "{memory}"}}),
]


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: filled(one, ids) for name, one in value.items()}
    return value.format(**ids) if isinstance(value, str) else value


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_another_tenants_ids_are_told_as_unknown_ones(
    server: Server, secrets: dict[str, str], method: str, path: str, body: dict[str, Any] | None
) -> None:
    unknown = {name: "0" * len(value) for name, value in secrets.items()}

    def ask(ids: dict[str, str], tenant: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {server.keys[tenant]}"}
        return httpx.request(
            method,
            f"{server.address}/v1{filled(path, ids)}",
            json=filled(body, ids) if body else None,
            headers=headers,
            timeout=60,
        )

    foreign, missing = ask(secrets, "bo"), ask(unknown, "bo")
    assert foreign.status_code == missing.status_code == 404
    plain = foreign.text
    for name, value in secrets.items():
        plain = plain.replace(value, unknown[name])
    assert plain == missing.text
    assert ask(secrets, "ana").status_code in (200, 400)


def test_the_same_name_is_another_memory_to_another_tenant(server: Server, secrets: dict[str, str]) -> None:
    own = {"memory": {"id": secrets["memory"], "write": "both", "trace": True}}
    with server.client("bo") as client:
        messages: list[Any] = [{"role": "user", "content": "Which word?"}]
        client.chat.completions.create(model=server.engine.model.name, messages=messages, max_tokens=4, extra_body=own)
    assert server.asked[-1].scope is None
    assert list(server.sources(secrets["memory"], "ana").values()) == ["The word is heron."]
    assert not any("heron" in text for text in server.sources(secrets["memory"], "bo").values())


@pytest.mark.parametrize("path", ["/models", "/responses/x", "/conversations/x"])
def test_all_routes_need_a_key(server: Server, path: str) -> None:
    assert httpx.get(f"{server.address}/v1{path}").status_code == 401
