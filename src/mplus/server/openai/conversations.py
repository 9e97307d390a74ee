"""``/v1/conversations`` and their items. An item is a source of the conversation's memory; deleting forgets it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from mplus.server.auth import Caller, Served
from mplus.server.engine import Engine, SourceRecord
from mplus.server.errors import BadRequestError, NotFoundError, UnknownMemoryError
from mplus.server.openai.items import Thread, ThreadContents, contents_of, item_of, new_id, new_items, page_of
from mplus.server.openai.messages import Turn, checked_text, turns_of
from mplus.server.openai.schemas import MOST_ITEMS, ConversationRequest, ConversationUpdate, ItemsRequest, metadata_of
from mplus.server.openai.threads import (
    conversation_entry,
    create_conversation,
    delete_conversation,
    delete_everywhere,
    open_conversation,
    put_conversation,
)
from mplus.server.openai.which_memory import named_memory
from mplus.server.scope import Scope

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/conversations")
async def create(request: Request, body: ConversationRequest, engine: Served, caller: Caller) -> dict[str, Any]:
    """Begin a conversation: in the memory named by `memory.id` or `X-Memory-Id`, else in one of its own."""
    named = named_memory(request.headers, body.memory, None, user_is_memory=False)
    turns = _turns(body.items) if body.items else []
    metadata, id_ = metadata_of(body.metadata), new_id("conv")
    thread = await create_conversation(engine, named.scope(caller.tenant) or Scope(caller.tenant, id_), id_, metadata)
    if turns:
        await _add(engine, thread, turns)
    return _conversation(engine, thread)


@router.get("/v1/conversations/{conversation_id}")
async def retrieve(conversation_id: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Describe a conversation."""
    return _conversation(engine, open_conversation(engine, caller.tenant, conversation_id))


@router.post("/v1/conversations/{conversation_id}")
async def update(conversation_id: str, body: ConversationUpdate, engine: Served, caller: Caller) -> dict[str, Any]:
    """Give a conversation other metadata."""
    thread = open_conversation(engine, caller.tenant, conversation_id)
    created_at = conversation_entry(engine, caller.tenant, conversation_id).created_at
    put_conversation(engine, thread.scope, conversation_id, metadata_of(body.metadata), created_at)
    return _conversation(engine, thread)


@router.delete("/v1/conversations/{conversation_id}")
async def delete(conversation_id: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Forget a conversation with all its items, and the branches made of it."""
    await delete_conversation(engine, open_conversation(engine, caller.tenant, conversation_id))
    return {"id": conversation_id, "object": "conversation.deleted", "deleted": True}


@router.post("/v1/conversations/{conversation_id}/items")
async def create_items(conversation_id: str, body: ItemsRequest, engine: Served, caller: Caller) -> dict[str, Any]:
    """Add items; they are written into the memory."""
    thread = open_conversation(engine, caller.tenant, conversation_id)
    turns = _turns(body.items)
    await _contents(engine, thread)
    added = await _add(engine, thread, turns)
    records = [one for one in (await _contents(engine, thread)).records if one.name in added]
    return await page_of(engine, thread.scope, records, after=None, limit=MOST_ITEMS, order="asc")


@router.get("/v1/conversations/{conversation_id}/items")
async def list_items(
    conversation_id: str, engine: Served, caller: Caller, after: str | None = None, limit: int = 20, order: str = "desc"
) -> dict[str, Any]:
    """List items, the newest first unless `order` is asc."""
    contents = await _contents(engine, open_conversation(engine, caller.tenant, conversation_id))
    return await page_of(engine, contents.thread.scope, contents.records, after=after, limit=limit, order=order)


@router.get("/v1/conversations/{conversation_id}/items/{item_id}")
async def retrieve_item(conversation_id: str, item_id: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Read one item."""
    thread = open_conversation(engine, caller.tenant, conversation_id)
    item = await item_of(engine, thread.scope, await _record(engine, thread, item_id))
    return item.to_json()


@router.delete("/v1/conversations/{conversation_id}/items/{item_id}")
async def delete_item(conversation_id: str, item_id: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Forget one item; returns the conversation."""
    thread = open_conversation(engine, caller.tenant, conversation_id)
    record = await _record(engine, thread, item_id)
    await delete_everywhere(engine, thread, record.name)
    return _conversation(engine, thread)


def _turns(items: list[Any]) -> list[Turn]:
    """Checked items.

    Raises:
        BadRequestError: there are too many, or one is empty.
    """
    if len(items) > MOST_ITEMS:
        raise BadRequestError(f"items has {len(items)} items, at most {MOST_ITEMS} can be added at once", param="items")
    turns = turns_of(items, "items")
    for number, turn in enumerate(turns):
        checked_text(turn.text, f"items[{number}].content")
    return turns


async def _add(engine: Engine, thread: Thread, turns: list[Turn]) -> list[str]:
    """Write items; returns the names of their sources."""
    items = new_items(turns)
    await engine.write_all(thread.scope, [item.written(thread) for item in items])
    return [thread.source(item.id) for item in items]


async def _contents(engine: Engine, thread: Thread) -> ThreadContents:
    try:
        return await contents_of(engine, thread)
    except UnknownMemoryError:
        raise NotFoundError(f"there is no conversation {thread.id!r:.100}; create one first", param="conversation") from None


async def _record(engine: Engine, thread: Thread, item: str) -> SourceRecord:
    for record in (await _contents(engine, thread)).records:
        if record.name == thread.source(item):
            return record
    raise NotFoundError(f"this conversation has no item {item!r:.100}; list its items for their ids", param="item_id")


def _conversation(engine: Engine, thread: Thread) -> dict[str, Any]:
    entry = conversation_entry(engine, thread.scope.tenant, thread.id)
    return {
        "id": thread.id,
        "object": "conversation",
        "created_at": int(entry.created_at),
        "metadata": entry.data.get("metadata", {}),
    }
