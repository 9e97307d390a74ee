"""Laws of responses, with OpenAI's own client: kept, gone on from, branched, deleted; typed events."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import Response

from mplus.server.answers import Answering, AnswerRequest, AnswerResult
from mplus.server.scope import Scope
from tests.unit.server.openai.conftest import Server, said

SHORT: dict[str, Any] = {"max_output_tokens": 8}


def ask(server: Server, client: OpenAI, text: Any, **options: Any) -> Response:
    response: Response = client.responses.create(model=server.engine.model.name, input=text, **SHORT, **options)
    return response


def messages(server: Server) -> list[tuple[str, str]]:
    """What the engine was asked last."""
    return [(one["role"], one["content"]) for one in server.asked[-1].messages or ()]


def test_a_response_is_kept_and_read_again(server: Server, client: OpenAI) -> None:
    told = ask(server, client, "I live in Porto.", instructions="Be short.", metadata={"a": "b"})
    assert messages(server) == [("system", "Be short."), ("user", "I live in Porto.")]
    assert told.object == "response"
    assert told.id.startswith("resp_") and told.output[0].id.startswith("msg_")  # type: ignore[union-attr]
    assert told.output_text
    assert (told.instructions, told.metadata, told.temperature) == ("Be short.", {"a": "b"}, 0.0)
    assert told.usage is not None
    assert told.usage.total_tokens == told.usage.input_tokens + told.usage.output_tokens
    again = client.responses.retrieve(told.id)
    assert again.model_dump() == told.model_dump()


def test_what_was_asked_is_listed(server: Server, client: OpenAI) -> None:
    told = ask(server, client, [{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}])
    listed: list[Any] = client.responses.input_items.list(told.id, order="asc").data
    assert [said(item) for item in listed] == ["One", "Two"]
    newest = client.responses.input_items.list(told.id, limit=1)
    assert [item.id for item in newest.data] == [listed[1].id]
    assert newest.has_more
    assert [item.id for item in newest] == [listed[1].id, listed[0].id]  # the client turns pages by itself


def test_the_newest_response_is_gone_on_from_in_its_memory(server: Server, client: OpenAI) -> None:
    first = ask(server, client, "I live in Porto.")
    assert server.asked[-1].scope is None
    second = ask(server, client, "And there?", previous_response_id=first.id)
    assert server.asked[-1].scope == Scope("ana", first.id)
    assert messages(server) == [("user", "I live in Porto."), ("assistant", first.output_text), ("user", "And there?")]
    assert second.previous_response_id == first.id
    assert list(server.sources(first.id).values()) == [
        "User: I live in Porto.\n\n",
        f"Assistant: {first.output_text}\n\n",
        "User: And there?\n\n",
        f"Assistant: {second.output_text}\n\n",
    ]


def test_an_older_response_branches(server: Server, client: OpenAI) -> None:
    first = ask(server, client, "I live in Porto.")
    second = ask(server, client, "The word is heron.", previous_response_id=first.id)
    other = ask(server, client, "The word is plover.", previous_response_id=first.id)
    assert messages(server)[-1] == ("user", "The word is plover.")
    assert not any("heron" in text for _, text in messages(server))
    main, branch = server.sources(first.id), server.sources(other.id)
    assert any("heron" in text for text in main.values()) and not any("plover" in text for text in main.values())
    assert any("plover" in text for text in branch.values()) and not any("heron" in text for text in branch.values())
    third = ask(server, client, "Which word?", previous_response_id=other.id)
    assert server.asked[-1].scope == Scope("ana", other.id)
    assert client.responses.retrieve(third.id).output_text == third.output_text
    ask(server, client, "Which word?", previous_response_id=second.id)
    assert server.asked[-1].scope == Scope("ana", first.id)


def test_answers_at_once_to_one_response_do_not_read_each_other(server: Server, client: OpenAI) -> None:
    first = ask(server, client, "I live in Porto.")

    async def together() -> list[Response]:
        async with server.async_client() as own:
            asked: dict[str, Any] = {"model": server.engine.model.name, "previous_response_id": first.id, **SHORT}
            return list(await asyncio.gather(*(own.responses.create(input=f"word {n}", **asked) for n in range(4))))

    told = asyncio.run(together())
    words = []
    for memory in (first.id, *(one.id for one in told)):
        if memory in [one.id for one in server.run(server.engine.memories("ana"))]:
            words.append([text for text in server.sources(memory).values() if "word" in text])
    assert sorted(words) == [[f"User: word {n}\n\n"] for n in range(4)]


def test_a_branch_that_nothing_is_written_to_goes_again(server: Server, client: OpenAI) -> None:
    first = ask(server, client, "I live in Porto.")
    ask(server, client, "The word is heron.", previous_response_id=first.id)
    before = server.run(server.engine.memories("ana"))
    told = ask(server, client, "Where?", previous_response_id=first.id, store=False)
    assert not any("heron" in text for _, text in messages(server))
    assert [one.id for one in server.run(server.engine.memories("ana"))] == [one.id for one in before]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(told.id)


def test_a_response_that_is_deleted_is_nowhere(server: Server, client: OpenAI) -> None:
    first = ask(server, client, "The word is heron.")
    second = ask(server, client, "Hello", previous_response_id=first.id)
    branch = ask(server, client, "Goodbye", previous_response_id=first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(first.id)
    assert caught.value.body["message"].startswith("there is no response")  # type: ignore[index]
    for memory, kept in ((first.id, second), (branch.id, branch)):
        assert not any("heron" in text for text in server.sources(memory).values())
        hits = server.run(server.engine.search(Scope("ana", memory), "heron", top_k=10))
        assert not any("heron" in hit.text for hit in hits)
        assert client.responses.retrieve(kept.id).output_text == kept.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(first.id)


def test_the_last_response_of_a_memory_of_its_own_takes_it_along(server: Server, client: OpenAI) -> None:
    told = ask(server, client, "I live in Porto.")
    assert told.id in [one.id for one in server.run(server.engine.memories("ana"))]
    client.responses.delete(told.id)
    assert told.id not in [one.id for one in server.run(server.engine.memories("ana"))]


def test_a_response_in_a_named_memory_writes_only_what_is_new(server: Server, client: OpenAI) -> None:
    memory = f"ana-{uuid.uuid4()}"
    own = {"memory": {"id": memory, "trace": True}}
    first = ask(server, client, "I live in Porto.", extra_body=own)
    assert first.model_dump()["memory"] == {"id": memory, "sources": [], "passages": []}
    again: list[Any] = [{"role": "user", "content": "I live in Porto."}, *first.output, {"role": "user", "content": "Where?"}]
    second = ask(server, client, again, extra_body=own)
    assert second.model_dump()["memory"]["passages"]
    assert list(server.sources(memory).values()) == [
        "User: I live in Porto.\n\n",
        f"Assistant: {first.output_text}\n\n",
        "User: Where?\n\n",
        f"Assistant: {second.output_text}\n\n",
    ]
    client.responses.delete(first.id)
    assert len(server.sources(memory)) == 2


def test_items_that_are_kept_already_are_not_written_twice(server: Server, client: OpenAI) -> None:
    first = ask(server, client, "I live in Porto.")
    ask(server, client, [*first.output, {"role": "user", "content": "Where?"}], previous_response_id=first.id)
    assert [text.split(":")[0] for text in server.sources(first.id).values()] == ["User", "Assistant", "User", "Assistant"]


@pytest.mark.parametrize("options", [{"store": False}, {"extra_body": {"memory": {"write": "none"}}}])
def test_what_is_not_to_be_kept_is_written_nowhere(server: Server, client: OpenAI, options: dict[str, Any]) -> None:
    before = server.run(server.engine.memories("ana"))
    told = ask(server, client, "I live in Porto.", **options)
    assert [one.id for one in server.run(server.engine.memories("ana"))] == [one.id for one in before]
    assert told.model_dump()["store"] is False
    with pytest.raises(openai.NotFoundError):
        ask(server, client, "Where?", previous_response_id=told.id)


def test_events_are_typed_and_numbered(server: Server, client: OpenAI) -> None:
    events = list(client.responses.create(model=server.engine.model.name, input="I live in Porto.", stream=True, **SHORT))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole = events[-1].response
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta").strip() == whole.output_text
    assert client.responses.retrieve(whole.id).model_dump() == whole.model_dump()


def test_the_clients_own_stream_puts_the_response_together(
    server: Server, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: AnswerRequest) -> Answering:  # the client takes only answers that were not cut
        answering = Answering(server.engine.loop)
        for piece in ("In", " Porto."):
            answering.put(piece)
        answering.end(AnswerResult(text="In Porto.", finish="stop", prompt_tokens=3, completion_tokens=2))
        return answering

    monkeypatch.setattr(server.engine, "answer", answer)
    with client.responses.stream(model=server.engine.model.name, input="Where?", **SHORT) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        whole = stream.get_final_response()
    assert deltas == ["In", " Porto."]
    assert (whole.status, whole.output_text) == ("completed", "In Porto.")
    assert client.responses.retrieve(whole.id).output_text == "In Porto."


def test_a_client_of_coroutines_gets_the_same(server: Server, client: OpenAI) -> None:
    async def streamed() -> str:
        async with server.async_client() as own:
            stream = await own.responses.create(model=server.engine.model.name, input="Hello", stream=True, **SHORT)
            return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])

    assert asyncio.run(streamed()).strip() == ask(server, client, "Hello").output_text


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"metadata": {str(n): "b" for n in range(17)}}, "metadata"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "4"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0]"),
        ({"conversation": "conv_a", "previous_response_id": "resp_a"}, "previous_response_id"),
        ({"store": True, "extra_body": {"memory": {"write": "none"}}}, "memory.write"),
        ({"store": False, "extra_body": {"memory": {"write": "both"}}}, "memory.write"),
        ({"extra_body": {"memory": {"write": "user"}}}, "memory.write"),
    ],
)
def test_what_cannot_be_done_is_refused(server: Server, client: OpenAI, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": server.engine.model.name, "input": "Hello", **options})
    assert caught.value.param == param
    assert server.asked == []


def test_nothing_is_made_in_the_background_so_nothing_is_cancelled(server: Server, client: OpenAI) -> None:
    told = ask(server, client, "Hello")
    with pytest.raises(openai.BadRequestError, match="only a response that is made in the background"):
        client.responses.cancel(told.id)


@pytest.mark.parametrize("options", [{"previous_response_id": "resp_0"}, {"conversation": "conv_0"}])
def test_an_id_that_is_not_there_is_not_found(server: Server, client: OpenAI, options: dict[str, Any]) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(server, client, "Hello", **options)
    assert caught.value.param == next(iter(options))
    assert server.asked == []
