"""Laws of chat completions, with OpenAI's own client: form, stream, memory read and written, refusals."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import openai
import pytest
from openai import OpenAI

from mplus.server.engine import SourceText
from mplus.server.scope import Scope
from tests.unit.server.openai.conftest import LIMITS, Server, said

HELLO: list[Any] = [{"role": "user", "content": "Where does Ilse live?"}]


@pytest.fixture
def memory(server: Server) -> str:
    """A memory of Ana's that knows something."""
    name = f"ana-{uuid.uuid4()}"
    fact = SourceText(source="ilse", text="Ilse Varga lives in Porto, where she keeps two grey cats.")
    server.run(server.engine.write_all(Scope("ana", name), [fact]))
    return name


def named(memory: str, **options: Any) -> dict[str, Any]:
    return {"memory": {"id": memory, **options}}


def test_a_chat_is_answered_in_openais_form(server: Server, client: OpenAI) -> None:
    done = client.chat.completions.create(model=server.engine.model.name, messages=HELLO, **LIMITS)
    assert done.object == "chat.completion"
    assert done.id.startswith("chatcmpl-")
    assert done.model == server.engine.model.name
    assert done.choices[0].message.role == "assistant"
    assert done.choices[0].message.content
    assert done.choices[0].finish_reason in ("stop", "length")
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert done.usage.prompt_tokens_details is not None
    assert done.usage.prompt_tokens_details.cached_tokens == 0
    assert "memory" not in done.model_dump()


def test_an_answer_is_greedy_unless_a_temperature_is_given(server: Server, client: OpenAI) -> None:
    client.chat.completions.create(model=server.engine.model.name, messages=HELLO, **LIMITS)
    client.chat.completions.create(
        model=server.engine.model.name, messages=HELLO, temperature=0.5, top_p=0.9, seed=3, stop=["x"], max_completion_tokens=5
    )
    plain, sampled = (request.sampling for request in server.asked)
    assert (plain.temperature, plain.max_tokens) == (0.0, 8)
    assert (sampled.temperature, sampled.top_p, sampled.seed, sampled.stop, sampled.max_tokens) == (0.5, 0.9, 3, ("x",), 5)


def test_pieces_of_a_stream_join_to_the_answer(server: Server, client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": server.engine.model.name, "messages": HELLO, **LIMITS}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_tells_no_usage_unless_asked(server: Server, client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(model=server.engine.model.name, messages=HELLO, stream=True, **LIMITS))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_a_client_of_coroutines_gets_the_same(server: Server, client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": server.engine.model.name, "messages": HELLO, **LIMITS}

    async def ask() -> tuple[str, str]:
        async with server.async_client() as own:
            whole = await own.chat.completions.create(**asked)
            stream = await own.chat.completions.create(**asked, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content, "".join(pieces)

    whole, streamed = asyncio.run(ask())
    assert whole == streamed.strip() == client.chat.completions.create(**asked).choices[0].message.content


def test_a_trace_tells_passages(server: Server, client: OpenAI, memory: str) -> None:
    done = client.chat.completions.create(
        model=server.engine.model.name, messages=HELLO, extra_body=named(memory, trace=True), **LIMITS
    )
    told = done.model_dump()["memory"]
    assert told["id"] == memory
    assert [source["name"] for source in told["sources"]] == ["ilse"]
    assert "Porto" in "".join(passage["text"] for passage in told["passages"])


def test_the_last_chunk_has_the_trace(server: Server, client: OpenAI, memory: str) -> None:
    chunks = list(
        client.chat.completions.create(
            model=server.engine.model.name, messages=HELLO, stream=True, extra_body=named(memory, trace=True), **LIMITS
        )
    )
    assert [chunk.model_dump().get("memory", {}).get("id") for chunk in chunks] == [None] * (len(chunks) - 1) + [memory]


def test_a_memory_is_not_written_unless_asked(server: Server, client: OpenAI, memory: str) -> None:
    client.chat.completions.create(model=server.engine.model.name, messages=HELLO, extra_body=named(memory), **LIMITS)
    assert list(server.sources(memory)) == ["ilse"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("write", "speakers"), [("user", ["User"]), ("both", ["User", "Assistant"])])
def test_a_turn_is_written_once_though_the_client_repeats_the_history(
    server: Server, client: OpenAI, memory: str, write: str, speakers: list[str], stream: bool
) -> None:
    history: list[Any] = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "My name is Ana."},
        {"role": "assistant", "content": "Hello Ana."},
        {"role": "user", "content": [{"type": "text", "text": "Where does"}, {"type": "text", "text": "Ilse live?"}]},
    ]
    asked: dict[str, Any] = {
        "model": server.engine.model.name,
        "messages": history,
        "extra_body": named(memory, write=write),
        **LIMITS,
    }
    if stream:
        answer = "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True))
    else:
        answer = client.chat.completions.create(**asked).choices[0].message.content or ""
    assert server.asked[0].messages == [*history[:3], {"role": "user", "content": "Where does\nIlse live?"}]
    written = {name: text for name, text in server.sources(memory).items() if name != "ilse"}
    assert all(name.startswith("chat/") and name.count("/") == 2 for name in written)
    said = {"User": "Where does\nIlse live?", "Assistant": answer.strip()}
    assert list(written.values()) == [f"{speaker}: {said[speaker]}\n\n" for speaker in speakers]


def test_a_memory_begins_with_its_first_write(server: Server, client: OpenAI) -> None:
    name = f"new-{uuid.uuid4()}"
    headers = {"X-Memory-Id": name, "X-Memory-Write": "user"}
    client.chat.completions.create(model=server.engine.model.name, messages=HELLO, extra_headers=headers, **LIMITS)
    assert server.asked[0].scope is None
    assert list(server.sources(name).values()) == ["User: Where does Ilse live?\n\n"]
    client.chat.completions.create(model=server.engine.model.name, messages=HELLO, extra_headers=headers, **LIMITS)
    assert server.asked[1].scope == Scope("ana", name)


def test_a_chat_in_a_conversation_repeats_its_newest_turns(server: Server, client: OpenAI) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "I live in Porto."}])
    own = {"conversation": conversation.id}
    done = client.chat.completions.create(model=server.engine.model.name, messages=HELLO, extra_body=own, **LIMITS)
    assert server.asked[0].messages == [{"role": "user", "content": "I live in Porto."}, *HELLO]
    items = client.conversations.items.list(conversation.id, order="asc").data
    assert [said(item) for item in items] == [
        "I live in Porto.",
        "Where does Ilse live?",
        done.choices[0].message.content,
    ]


def test_another_memory_than_the_conversations_is_refused(server: Server, client: OpenAI, memory: str) -> None:
    conversation = client.conversations.create()
    with pytest.raises(openai.BadRequestError, match="leave memory.id out"):
        client.chat.completions.create(
            model=server.engine.model.name, messages=HELLO, extra_body={"conversation": conversation.id, **named(memory)}
        )


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"3": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 3}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "4", "tool_call_id": "a"}]}, "messages[0]"),
        ({"messages": [{"role": "critic", "content": "4"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0]",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "8"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"frequency_penalty": 5}, "frequency_penalty"),
        ({"messages": "hello"}, "messages"),
        ({"extra_body": {"memory": {"ids": "x"}}}, "memory.ids"),
        ({"extra_body": {"memory": {"id": 7}}}, "memory.id"),
        ({"extra_body": {"memory": {"id": "a\nb"}}}, None),
        ({"extra_body": {"memory": {"write": "both"}}}, "memory.id"),
        ({"extra_body": {"conversation": 7}}, "conversation"),
        ({"extra_headers": {"X-Memory-Id": "x", "X-Memory-Write": "all"}}, "X-Memory-Write"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    server: Server, client: OpenAI, changed: dict[str, Any], param: str | None
) -> None:
    asked: dict[str, Any] = {"model": server.engine.model.name, "messages": HELLO, **changed}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked)
    error = caught.value.body
    assert isinstance(error, dict) and set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert "\n" not in error["message"]
    assert server.asked == []


def test_tools_that_may_not_be_called_are_no_hindrance(server: Server, client: OpenAI) -> None:
    tools: list[Any] = [{"type": "function", "function": {"name": "f"}}]
    asked: dict[str, Any] = {"messages": HELLO, "tools": tools, "tool_choice": "none", "prompt_cache_key": "k", **LIMITS}
    assert client.chat.completions.create(model=server.engine.model.name, **asked).choices


def test_another_model_is_not_there(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.code == "model_not_found"


def test_a_memory_that_is_not_there_is_not_found(server: Server, client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=server.engine.model.name, messages=HELLO, extra_body=named("nobody"))
    assert caught.value.code == "memory_not_found"
