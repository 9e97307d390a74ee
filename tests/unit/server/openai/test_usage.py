"""Laws of usage: memory tokens that were read are cached tokens of the prompt, and an answer has the length it was allowed."""

from __future__ import annotations

import uuid
from typing import Any

from openai import OpenAI

from mplus.server.scope import Scope
from tests.unit.server.openai.conftest import Server


def test_memory_tokens_are_cached_tokens_of_a_chat(server: Server, client: OpenAI) -> None:
    memory = f"ana-{uuid.uuid4()}"
    server.run(server.engine.write(Scope("ana", memory), "Ilse Varga lives in Porto.", source="ilse"))
    asked: dict[str, Any] = {
        "model": server.engine.model.name,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 8,
    }
    plain = client.chat.completions.create(**asked).usage
    reading = client.chat.completions.create(**asked, extra_body={"memory": {"id": memory}}).usage
    assert plain is not None and reading is not None
    assert plain.prompt_tokens_details is not None and reading.prompt_tokens_details is not None
    assert plain.prompt_tokens == len("user: Hello\n")  # a token is a byte
    assert plain.prompt_tokens_details.cached_tokens == 0
    assert reading.prompt_tokens_details.cached_tokens == len("\n\nIlse Varga lives in Porto.")
    assert reading.prompt_tokens == plain.prompt_tokens + reading.prompt_tokens_details.cached_tokens
    assert plain.completion_tokens == reading.completion_tokens == 8
    assert plain.total_tokens == plain.prompt_tokens + 8


def test_memory_tokens_are_cached_tokens_of_a_response(server: Server, client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": server.engine.model.name, "max_output_tokens": 8}
    first = client.responses.create(input="I live in Porto.", **asked)
    assert first.status == "incomplete"
    assert first.incomplete_details is not None and first.incomplete_details.reason == "max_output_tokens"
    second = client.responses.create(input="Where?", previous_response_id=first.id, **asked)
    assert first.usage is not None and second.usage is not None
    assert first.usage.input_tokens == len("user: I live in Porto.\n")
    assert first.usage.input_tokens_details.cached_tokens == 0
    assert 0 < second.usage.input_tokens_details.cached_tokens < second.usage.input_tokens
    assert second.usage.output_tokens == 8
