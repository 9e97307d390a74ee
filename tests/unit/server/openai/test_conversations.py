"""Laws of conversations, with OpenAI's own client: items are sources of a memory, and deleting forgets them."""

from __future__ import annotations

import uuid
from typing import Any

import openai
import pytest
from openai import OpenAI

from mplus.server.scope import Scope
from tests.unit.server.openai.conftest import Server, said

SHORT: dict[str, Any] = {"max_output_tokens": 8}


def item(text: str, role: str = "user") -> Any:
    return {"type": "message", "role": role, "content": text}


def test_a_conversation_is_made_described_changed_and_deleted(server: Server, client: OpenAI) -> None:
    made = client.conversations.create(metadata={"topic": "birds"})
    assert made.id.startswith("conv_")
    assert made.object == "conversation"
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "fish"})
    assert (changed.metadata, changed.created_at) == ({"topic": "fish"}, made.created_at)
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for ask in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)
    assert made.id not in [one.id for one in server.run(server.engine.memories("ana"))]


def test_items_are_added_listed_read_and_deleted(server: Server, client: OpenAI) -> None:
    made = client.conversations.create(items=[item("I live in Porto.")])
    added = client.conversations.items.create(made.id, items=[item("Hello Ana.", "assistant"), item("Be short.", "developer")])
    assert [item.to_dict()["role"] for item in added.data] == ["assistant", "developer"]
    listed: list[Any] = client.conversations.items.list(made.id, order="asc").data
    assert [said(item) for item in listed] == ["I live in Porto.", "Hello Ana.", "Be short."]
    assert [item.content[0].type for item in listed] == ["input_text", "output_text", "input_text"]
    newest_first = client.conversations.items.list(made.id, limit=2)
    assert [item.id for item in newest_first.data] == [listed[2].id, listed[1].id]
    assert [item.id for item in newest_first] == [item.id for item in listed[::-1]]
    first = client.conversations.items.retrieve(listed[0].id, conversation_id=made.id)
    assert first == listed[0]
    left = client.conversations.items.delete(listed[0].id, conversation_id=made.id)
    assert left.id == made.id
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(listed[0].id, conversation_id=made.id)
    assert not any("Porto" in text for text in server.sources(made.id).values())
    hits = server.run(server.engine.search(Scope("ana", made.id), "Where do I live? Porto?", top_k=10))
    assert not any("Porto" in hit.text for hit in hits)


def test_a_response_in_a_conversation_reads_and_writes_it(server: Server, client: OpenAI) -> None:
    made = client.conversations.create(items=[item("I live in Porto.")])
    told = client.responses.create(model=server.engine.model.name, input="Where?", conversation=made.id, **SHORT)
    assert told.conversation is not None and told.conversation.id == made.id
    assert server.asked[-1].scope == Scope("ana", made.id)
    assert [one["content"] for one in server.asked[-1].messages or ()] == ["I live in Porto.", "Where?"]
    texts = [said(item) for item in client.conversations.items.list(made.id, order="asc")]
    assert texts == ["I live in Porto.", "Where?", told.output_text]
    client.responses.delete(told.id)
    assert [said(item) for item in client.conversations.items.list(made.id)] == ["I live in Porto."]


def test_the_newest_turns_alone_stand_in_the_prompt(server: Server, client: OpenAI) -> None:
    made = client.conversations.create(items=[item(f"Turn {number}") for number in range(9)])
    client.responses.create(model=server.engine.model.name, input="Now?", conversation=made.id, **SHORT)
    assert [one["content"] for one in server.asked[-1].messages or ()] == [*(f"Turn {number}" for number in range(3, 9)), "Now?"]


def test_a_conversation_may_be_in_a_memory_that_was_named(server: Server, client: OpenAI) -> None:
    memory = f"ana-{uuid.uuid4()}"
    server.run(server.engine.write(Scope("ana", memory), "Ilse lives in Porto.", source="ilse"))
    made = client.conversations.create(items=[item("Hello")], extra_body={"memory": {"id": memory}})
    client.responses.create(model=server.engine.model.name, input="Where?", conversation=made.id, **SHORT)
    assert server.asked[-1].scope == Scope("ana", memory)
    assert len(server.sources(memory)) == 4
    client.conversations.delete(made.id)
    assert list(server.sources(memory)) == ["ilse"]


def test_deleting_a_conversation_reaches_its_responses_and_branches(server: Server, client: OpenAI) -> None:
    made = client.conversations.create()
    ask: dict[str, Any] = {"model": server.engine.model.name, **SHORT}
    first = client.responses.create(input="The word is heron.", conversation=made.id, **ask)
    client.responses.create(input="Hello", conversation=made.id, **ask)
    branch = client.responses.create(input="Goodbye", previous_response_id=first.id, **ask)
    client.conversations.delete(made.id)
    for told in (first, branch):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(told.id)
    memories = [one.id for one in server.run(server.engine.memories("ana"))]
    assert made.id not in memories and branch.id not in memories


@pytest.mark.parametrize(
    ("items", "param"),
    [
        ([item("x")] * 21, "items"),
        ([item(" ")], "items[0].content"),
        ([item("x"), item("")], "items[1].content"),
        ([{"type": "item_reference", "id": "msg_0"}], "items[0].type"),
        (["x"], "items[0]"),
    ],
)
def test_items_that_cannot_be_kept_are_refused_and_none_is_written(
    server: Server, client: OpenAI, items: list[Any], param: str
) -> None:
    made = client.conversations.create()
    with pytest.raises(openai.BadRequestError) as caught:
        client.conversations.items.create(made.id, items=items)
    assert caught.value.param == param
    assert client.conversations.items.list(made.id).data == []


@pytest.mark.parametrize(
    ("options", "param"),
    [({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"order": "up"}, "order"), ({"after": "x"}, "after")],
)
def test_pages_that_are_not_there_are_refused(client: OpenAI, options: dict[str, Any], param: str) -> None:
    made = client.conversations.create(items=[item("Hello")])
    with pytest.raises(openai.BadRequestError) as caught:
        client.conversations.items.list(made.id, **options)
    assert caught.value.param == param
