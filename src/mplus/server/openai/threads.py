"""Conversations and chains of responses: finding, branching and deleting them. Only ids stand in the index, all else in the memories.

A thread that no memory was named for has one of its own, under the thread's id. Going on from an answer that is not the newest of its
thread makes a fork, a *branch*, under the id of the new answer; what came after is forgotten there. Deleting reaches all branches.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from mplus.server.engine import Engine, SourceRecord
from mplus.server.errors import BadRequestError, NotFoundError, UnknownMemoryError, UnknownSourceError
from mplus.server.memories.index import IndexEntry
from mplus.server.openai.items import Thread, ThreadContents, contents_of
from mplus.server.scope import Scope

CONVERSATION: Final = "conversation"
RESPONSE: Final = "response"
BRANCH: Final = "branch"
GIVEN_ID: Final = re.compile("(conv|resp)_[0-9a-f]{24}")
"""Ids that were given out have this form; others are not even looked up."""


_LOCKS: WeakValueDictionary[Thread, asyncio.Lock] = WeakValueDictionary()


def lock_of(thread: Thread) -> asyncio.Lock:
    """Held from seeing what is newest in a thread until the next answer is written, so that two answers do not both go on from it."""
    return _LOCKS.setdefault(thread, asyncio.Lock())


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """An answer that is kept.

    Attributes:
        output: the source of its text; its note tells the rest.
    """

    id: str
    contents: ThreadContents
    output: SourceRecord

    @property
    def thread(self) -> Thread:
        """Where it is."""
        return self.contents.thread

    @property
    def inputs(self) -> list[SourceRecord]:
        """The sources of what was asked."""
        return [one for one in self.contents.of_response(self.id) if one.name != self.output.name]

    @property
    def is_newest(self) -> bool:
        """Whether nothing came after it."""
        return self.contents.records[-1].name == self.output.name


# -- conversations -----------------------------------------------------------------------------------------------------


def conversation_id(value: Any) -> str | None:
    """The id in the field ``conversation``, which is a string or an object.

    Raises:
        BadRequestError: it is neither.
    """
    name = value.get("id") if isinstance(value, Mapping) else value
    if name is None and not isinstance(value, Mapping):
        return None
    if not isinstance(name, str) or not name:
        raise BadRequestError("conversation must be the id of a conversation, or {'id': ...}", param="conversation")
    return name


async def create_conversation(engine: Engine, scope: Scope, id_: str, metadata: Mapping[str, str]) -> Thread:
    """Begin a conversation in a memory, which is made where there is none."""
    await engine.create(scope, exist_ok=True)
    put_conversation(engine, scope, id_, metadata, time.time())
    return Thread(id=id_, scope=scope)


def put_conversation(engine: Engine, scope: Scope, id_: str, metadata: Mapping[str, str], created_at: float) -> None:
    """Keep what is told of a conversation."""
    engine.index.put(
        IndexEntry(
            tenant=scope.tenant,
            kind=CONVERSATION,
            id=id_,
            memory=scope.memory,
            created_at=created_at,
            data={"metadata": dict(metadata)},
        )
    )


def conversation_entry(engine: Engine, tenant: str, id_: str) -> IndexEntry:
    """What is known of a conversation.

    Raises:
        NotFoundError: this tenant has none of that id.
    """
    entry = _entry(engine, tenant, CONVERSATION, id_)
    if entry is None or entry.memory is None:
        raise NotFoundError(f"there is no conversation {id_!r:.100}; create one first", param="conversation")
    return entry


def open_conversation(engine: Engine, tenant: str, id_: str) -> Thread:
    """A conversation.

    Raises:
        NotFoundError: this tenant has none of that id.
    """
    entry = conversation_entry(engine, tenant, id_)
    assert entry.memory is not None
    return Thread(id=id_, scope=Scope(tenant, entry.memory))


async def delete_conversation(engine: Engine, thread: Thread) -> None:
    """Forget all turns of a conversation, in its memory and in its branches; a memory that was made for it goes as a whole."""
    for scope in _scopes(engine, thread):
        if scope != thread.scope or scope.memory == thread.id:
            await _delete_memory(engine, scope)
            continue
        contents = await contents_of(engine, Thread(id=thread.id, scope=scope))
        await forget(engine, scope, contents.records)
    for branch in _branches(engine, thread):
        engine.index.delete(thread.scope.tenant, BRANCH, branch)
    engine.index.delete(thread.scope.tenant, CONVERSATION, thread.id)


# -- responses ---------------------------------------------------------------------------------------------------------


async def find_response(engine: Engine, tenant: str, id_: str, *, param: str = "response_id") -> StoredResponse:
    """An answer that is kept.

    Raises:
        NotFoundError: this tenant has none of that id, or its text was forgotten.
    """
    unknown = NotFoundError(f"there is no response {id_!r:.100}; responses are kept where store is not false", param=param)
    entry = _entry(engine, tenant, RESPONSE, id_)
    if entry is None or entry.memory is None or entry.source is None:
        raise unknown
    thread = Thread(id=entry.source.split("/")[1], scope=Scope(tenant, entry.memory))
    try:
        contents = await contents_of(engine, thread)
    except UnknownMemoryError:
        raise unknown from None
    for record in contents.records:
        if record.name == entry.source:
            return StoredResponse(id=id_, contents=contents, output=record)
    raise unknown


def put_response(engine: Engine, thread: Thread, id_: str, source: str) -> None:
    """Keep where an answer is."""
    engine.index.put(IndexEntry(tenant=thread.scope.tenant, kind=RESPONSE, id=id_, memory=thread.scope.memory, source=source))


async def branch_behind(engine: Engine, stored: StoredResponse, name: str) -> ThreadContents:
    """Fork the memory of an answer, and forget there what came after it.

    Args:
        name: of the new memory.
    """
    new = Scope(stored.thread.scope.tenant, name)
    await engine.fork(stored.thread.scope, new)
    engine.index.put(IndexEntry(tenant=new.tenant, kind=BRANCH, id=name, memory=name, source=stored.thread.prefix))
    branch = await contents_of(engine, Thread(id=stored.thread.id, scope=new))
    names = [one.name for one in branch.records]
    end = names.index(stored.output.name) + 1
    await forget(engine, new, branch.records[end:])
    return ThreadContents(thread=branch.thread, records=branch.records[:end])


async def delete_branch(engine: Engine, thread: Thread) -> None:
    """Delete a branch that nothing was written to."""
    await _delete_memory(engine, thread.scope)
    engine.index.delete(thread.scope.tenant, BRANCH, thread.scope.memory)


async def delete_response(engine: Engine, stored: StoredResponse) -> None:
    """Forget question and answer wherever they are; a memory of their own that is empty then is deleted."""
    for scope in _scopes(engine, stored.thread):
        await delete_items(
            engine, Thread(id=stored.thread.id, scope=scope), {one.name for one in stored.contents.of_response(stored.id)}
        )
    engine.index.delete(stored.thread.scope.tenant, RESPONSE, stored.id)


async def delete_everywhere(engine: Engine, thread: Thread, source: str) -> None:
    """Forget one item of a thread, in its memory and in its branches."""
    for scope in _scopes(engine, thread):
        await delete_items(engine, Thread(id=thread.id, scope=scope), {source})


async def delete_items(engine: Engine, thread: Thread, sources: set[str]) -> None:
    """Forget items of a thread in one memory."""
    try:
        contents = await contents_of(engine, thread)
    except UnknownMemoryError:
        return
    await forget(engine, thread.scope, [one for one in contents.records if one.name in sources])
    is_own = thread.scope.memory == thread.id or thread.scope.memory in _branches(engine, thread)
    if (
        is_own
        and engine.index.get(thread.scope.tenant, CONVERSATION, thread.id) is None
        and not await engine.sources(thread.scope)
    ):
        await _delete_memory(engine, thread.scope)


async def forget(engine: Engine, scope: Scope, records: Sequence[SourceRecord]) -> None:
    """Forget sources, and the ids of answers that were among them."""
    names = [one.name for one in records]
    if not names:
        return
    try:
        await engine.forget(scope, names)
    except UnknownSourceError:  # somebody else was faster with one of them
        for name in {one.name for one in await engine.sources(scope)} & set(names):
            await engine.forget(scope, [name])
    engine.index.delete_source(scope.tenant, scope.memory, names)


def _entry(engine: Engine, tenant: str, kind: str, id_: str) -> IndexEntry | None:
    return engine.index.get(tenant, kind, id_) if GIVEN_ID.fullmatch(id_) else None


def _branches(engine: Engine, thread: Thread) -> list[str]:
    entries = engine.index.list(thread.scope.tenant, BRANCH, source=thread.prefix)
    return [entry.id for entry in entries]


def _scopes(engine: Engine, thread: Thread) -> list[Scope]:
    """The memories that turns of a thread are in."""
    tenant = thread.scope.tenant
    return [thread.scope, *(Scope(tenant, name) for name in _branches(engine, thread) if name != thread.scope.memory)]


async def _delete_memory(engine: Engine, scope: Scope) -> None:
    with suppress(UnknownMemoryError):
        await engine.delete(scope)
    engine.index.delete_memory(scope.tenant, scope.memory)
