"""Laws of odd requests: half a surrogate pair anywhere is text or a refusal, never a fault."""

from __future__ import annotations

import httpx
import pytest

from tests.unit.server.openai.conftest import Server

HALF = r'"\ud800"'


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/chat/completions", '{"messages": [{"role": "user", "content": "a \\ud800"}], "max_tokens": 2}', 200),
        ("/chat/completions", '{"messages": [{"role": "user", "content": "a"}], "model": HALF}', 404),
        ("/chat/completions", '{"messages": [{"role": HALF, "content": "a"}]}', 400),
        ("/chat/completions", '{"messages": [{"role": "user", "content": "a"}], "memory": {"id": HALF}}', 400),
        ("/chat/completions", '{"messages": [{"role": "user", "content": "a"}], "conversation": HALF}', 404),
        ("/completions", '{"prompt": "a \\ud800", "max_tokens": 2, "stream": true}', 200),
        ("/responses", '{"input": "a", "max_output_tokens": 2, "instructions": HALF, "user": HALF}', 200),
        ("/responses", '{"input": "a", "max_output_tokens": 2, "instructions": HALF, "stream": true}', 200),
        ("/responses", '{"input": "a", "metadata": {"a": HALF}}', 400),
        ("/responses", '{"input": "a", "metadata": {HALF: "a"}}', 400),
        ("/responses", '{"input": "a", "previous_response_id": HALF}', 404),
        ("/conversations", '{"metadata": {"a": HALF}}', 400),
        ("/conversations", '{"items": [{"role": "user", "content": HALF}]}', 200),
    ],
)
def test_half_a_character_is_no_fault(server: Server, path: str, body: str, status: int) -> None:
    headers = {"Authorization": f"Bearer {server.keys['ana']}", "Content-Type": "application/json"}
    got = httpx.post(f"{server.address}/v1{path}", content=body.replace("HALF", HALF).encode(), headers=headers, timeout=60)
    assert got.status_code == status, got.text
    assert '"error"' not in got.text or status != 200 or '"error":null' in got.text


@pytest.mark.parametrize(
    "path", ["/responses/%FF", "/responses/..%2F..%2Fkeys", "/conversations/%00", "/conversations/conv_0/items/%ED%A0%80"]
)
def test_a_strange_id_is_not_found(server: Server, path: str) -> None:
    headers = {"Authorization": f"Bearer {server.keys['ana']}"}
    assert httpx.get(f"{server.address}/v1{path}", headers=headers, timeout=60).status_code == 404


def test_each_body_has_an_example_that_is_accepted(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.keys['ana']}"}
    told = httpx.get(f"{server.address}/openapi.json", headers=headers).json()
    conversation = httpx.post(f"{server.address}/v1/conversations", json={}, headers=headers).json()["id"]
    paths = ["/chat/completions", "/completions", "/responses", "/conversations"]
    for path in [*paths, "/conversations/{conversation_id}", "/conversations/{conversation_id}/items"]:
        content = told["paths"][f"/v1{path}"]["post"]["requestBody"]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        (example,) = told["components"]["schemas"][name]["examples"]
        address = f"{server.address}/v1{path.format(conversation_id=conversation)}"
        got = httpx.post(address, json=example, headers=headers, timeout=60)
        assert got.status_code == 200, got.text
