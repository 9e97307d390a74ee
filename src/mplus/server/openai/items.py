"""Turns as sources of a memory, and items read back from them: the text of a source and its note are all there is. Knows no route.

A turn is the source ``chat/<thread>/<item id>``; the thread is a conversation, a chain of responses, or a day.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mplus.conversation import TURNS_IN_PROMPT, turn_content, turn_text
from mplus.server.engine import Engine, SourceRecord, SourceText
from mplus.server.errors import BadRequestError, UnknownSourceError
from mplus.server.openai.messages import Turn
from mplus.server.scope import Scope

PROMPT_SHARE: Final = 4
"""Turns of a conversation that stand in a prompt take at most one part in so many of its tokens."""


@dataclass(frozen=True, kw_only=True)
class Thread:
    """Turns that belong together, in one memory."""

    id: str
    scope: Scope

    @property
    def prefix(self) -> str:
        """How the names of its sources begin."""
        return f"chat/{self.id}/"

    def source(self, item: str) -> str:
        """The name of an item's source."""
        return self.prefix + item


@dataclass(frozen=True, kw_only=True)
class Item:
    """One turn that is kept.

    Attributes:
        response: the answer it belongs to; None where it was added by itself.
        answer: what is told of a response besides its text, at the item that is its output.
    """

    id: str
    role: str
    text: str
    created_at: float
    status: str = "completed"
    response: str | None = None
    answer: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """OpenAI's form."""
        return message_json(self.id, self.role, self.text, self.status)

    def written(self, thread: Thread) -> SourceText:
        """What goes into the memory."""
        note: dict[str, Any] = {
            "type": "message",
            "role": self.role,
            "id": self.id,
            "created_at": self.created_at,
            "status": self.status,
            "response": self.response,
        }
        if self.answer is not None:
            note["answer"] = dict(self.answer)
        return SourceText(source=thread.source(self.id), text=turn_text(self.role, self.text), at=self.created_at, note=note)


@dataclass(frozen=True, kw_only=True)
class ThreadContents:
    """The sources of a thread, oldest first."""

    thread: Thread
    records: Sequence[SourceRecord] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """Item ids."""
        return [one.name.removeprefix(self.thread.prefix) for one in self.records]

    def of_response(self, response: str) -> list[SourceRecord]:
        """Those that belong to one answer."""
        return [one for one in self.records if one.note.get("response") == response]


def new_id(kind: str) -> str:
    """An id that nobody can guess: ``kind_`` and 24 hexadecimal digits."""
    return f"{kind}_{secrets.token_hex(12)}"


def message_json(item: str, role: str, text: str, status: str = "completed") -> dict[str, Any]:
    """A message as OpenAI's responses and conversations have it."""
    part = output_part(text) if role == "assistant" else {"type": "input_text", "text": text}
    return {"id": item, "type": "message", "role": role, "status": status, "content": [part]}


def output_part(text: str) -> dict[str, Any]:
    """The text part of an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def new_items(turns: Sequence[Turn], response: str | None = None, *, known: Sequence[str] = ()) -> list[Item]:
    """Items for turns that hold a word and are not kept yet."""
    now = time.time()
    return [
        Item(id=new_id("msg"), role=turn.role, text=turn.text, created_at=now, response=response)
        for turn in turns
        if turn.text and turn.id not in known
    ]


async def contents_of(engine: Engine, thread: Thread) -> ThreadContents:
    """What a thread holds now.

    Raises:
        UnknownMemoryError: its memory was deleted.
    """
    records = [one for one in await engine.sources(thread.scope) if one.name.startswith(thread.prefix)]
    return ThreadContents(thread=thread, records=records)


async def item_of(engine: Engine, scope: Scope, record: SourceRecord) -> Item:
    """An item, read from its source."""
    note, role = record.note, str(record.note.get("role", "user"))
    return Item(
        id=record.name.rpartition("/")[2],
        role=role,
        text=turn_content(role, await engine.text(scope, record.name)),
        created_at=float(note.get("created_at") or record.first_at or 0),
        status=str(note.get("status", "completed")),
        response=note.get("response"),
        answer=note.get("answer"),
    )


async def items_of(engine: Engine, scope: Scope, records: Sequence[SourceRecord]) -> list[Item]:
    """Items in the order of their sources; one that is forgotten meanwhile is left out."""
    items = []
    for record in records:
        try:
            items.append(await item_of(engine, scope, record))
        except UnknownSourceError:
            continue
    return items


async def newest_turns(engine: Engine, contents: ThreadContents) -> list[Turn]:
    """The turns that a prompt repeats, so that it can refer to them; older ones are only in the memory."""
    room, kept = engine.settings.most_prompt_tokens // PROMPT_SHARE, list[SourceRecord]()
    for record in list(contents.records)[: -TURNS_IN_PROMPT - 1 : -1]:
        room -= record.tokens
        if room < 0:
            break
        kept.append(record)
    items = await items_of(engine, contents.thread.scope, kept[::-1])
    return [Turn(role=item.role, text=item.text, id=item.id) for item in items]


async def page_of(
    engine: Engine, scope: Scope, records: Sequence[SourceRecord], *, after: str | None, limit: int, order: str
) -> dict[str, Any]:
    """One page of items, as OpenAI lists them.

    Raises:
        BadRequestError: an argument is out of range, or `after` is none of the items.
    """
    if not 1 <= limit <= 100:
        raise BadRequestError(f"limit must be from 1 to 100, got {limit}", param="limit")
    if order not in ("asc", "desc"):
        raise BadRequestError(f"order must be asc or desc, got {order!r:.40}", param="order")
    listed = list(records) if order == "asc" else list(records)[::-1]
    ids = [one.name.rpartition("/")[2] for one in listed]
    if after is not None and after not in ids:
        raise BadRequestError(
            f"after is {after!r:.60}, which is no item of this list; give the id of the last item you have", param="after"
        )
    begin = 0 if after is None else ids.index(after) + 1
    items = await items_of(engine, scope, listed[begin : begin + limit])
    return {
        "object": "list",
        "data": [item.to_json() for item in items],
        "first_id": items[0].id if items else "",
        "last_id": items[-1].id if items else "",
        "has_more": begin + limit < len(listed),
    }
