"""mem0's memories in the engine's: each is one source, its name the uuid, its note what mem0 keeps beside the text. Knows no web.

The index leads from a uuid to its memory. What is deleted leaves times and the uuid (its history), never text or metadata.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from mplus.server.engine import Engine, SourceRecord, SourceText
from mplus.server.errors import BadRequestError, NotFoundError, UnknownMemoryError
from mplus.server.mem0.filters import check, names_an_owner, verdict
from mplus.server.mem0.owners import FIELDS, TYPES, Owner
from mplus.server.memories.index import IndexEntry
from mplus.server.scope import Scope

KIND: Final = "mem0"
"""Of entries in the index, and of notes."""
DELETED: Final = "mem0_deleted"
MOST_EVENTS = 100
"""Changes that are kept of one memory, the newest."""
MOST_SEARCHED = 64
"""Memories of different owners that one search reads; each is a pass of the model."""
FOUND_AT_FIRST = 100
"""Passages that are looked at where a filter may leave some out."""


class Event(BaseModel):
    """A change of a memory, without text."""

    event: Literal["ADD", "UPDATE", "DELETE"]
    at: AwareDatetime


class Note(BaseModel):
    """What is kept beside the text of a memory of mem0."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["mem0"] = KIND
    role: str = "user"
    metadata: dict[str, Any] = {}
    hash: str
    created_at: AwareDatetime
    updated_at: AwareDatetime | None = None
    events: list[Event]

    def plain(self) -> dict[str, Any]:
        """JSON of it."""
        return self.model_dump(mode="json")

    def then(self, event: Literal["UPDATE", "DELETE"], **changed: Any) -> Note:
        """The note after a change."""
        now = datetime.now(UTC)
        events = [*self.events, Event(event=event, at=now)][-MOST_EVENTS:]
        return self.model_copy(update={"updated_at": now, "events": events, **changed})


class Change(BaseModel):
    """An event as the history has it; a text is told only where the memory has it now."""

    id: str
    memory_id: str
    event: Literal["ADD", "UPDATE", "DELETE"]
    old_memory: None = None
    new_memory: str | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    is_deleted: bool


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One memory of mem0.

    Attributes:
        text: None where it was not read.
        score: of a search.
    """

    id: str
    owner: Owner
    note: Note
    text: str | None = None
    score: float | None = None

    def fields(self) -> dict[str, Any]:
        """What filters are asked of."""
        return {"id": self.id, **self.owner.ids, **self.note.model_dump(mode="json")}

    @classmethod
    def of_source(cls, owner: Owner, name: str, note: Mapping[str, Any]) -> Kept | None:
        """Read a source's note; None where the source is not mem0's."""
        try:
            return cls(id=name, owner=owner, note=Note.model_validate(note))
        except ValidationError:
            return None


@dataclass(frozen=True, kw_only=True)
class Said:
    """A text to keep, and who said it."""

    text: str
    role: str = "user"


@dataclass(kw_only=True)
class Entity:
    """A user, agent, app or run with memories."""

    type: str
    id: str
    total_memories: int = 0
    created_at: float = field(default=float("inf"))
    updated_at: float = 0.0


class Catalogue:
    """mem0's memories of one tenant."""

    def __init__(self, engine: Engine, tenant: str) -> None:
        self._engine, self._tenant, self._index = engine, tenant, engine.index

    # -- one -------------------------------------------------------------------------------------------------------

    async def add(self, owner: Owner, said: Sequence[Said], metadata: Mapping[str, Any], at: float | None) -> list[Kept]:
        """Keep texts as they are: all of them or none, on the disk when this returns."""
        scope = Scope(self._tenant, owner.memory)
        now = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
        kept = [
            Kept(
                id=str(uuid.uuid4()),
                owner=owner,
                note=Note(
                    role=one.role,
                    metadata=dict(metadata),
                    hash=_hash(one.text),
                    created_at=now,
                    events=[Event(event="ADD", at=now)],
                ),
                text=one.text,
            )
            for one in said
        ]
        self._index.put_all(
            [self._entry(one) for one in kept]
        )  # first: an id that leads nowhere is no harm, a text without one is
        try:
            await self._engine.write_all(
                scope, [SourceText(source=one.id, text=one.text or "", at=at, note=one.note.plain()) for one in kept]
            )
        except BaseException:
            for one in kept:
                self._index.delete(self._tenant, KIND, one.id)
            raise
        return kept

    async def get(self, id: str) -> Kept:
        """One memory with its text.

        Raises:
            NotFoundError: this tenant has none of that id.
        """
        scope, record = await self._found(id)
        owner = Owner.of_memory(scope.memory)
        kept = None if owner is None else Kept.of_source(owner, record.name, record.note)
        if kept is None:
            raise _unknown(id)
        return replace(kept, text=await self._engine.text(scope, id))

    async def update(self, id: str, text: str | None, metadata: Mapping[str, Any] | None, at: float | None = None) -> Kept:
        """Give a memory another text, other metadata, or both.

        Raises:
            NotFoundError: this tenant has none of that id.
        """
        before = await self.get(id)
        scope = Scope(self._tenant, before.owner.memory)
        changed: dict[str, Any] = {} if metadata is None else {"metadata": dict(metadata)}
        if text is None:
            after = replace(before, note=before.note.then("UPDATE", **changed))
            await self._engine.note(scope, id, after.note.plain())
        else:
            after = replace(before, text=text, note=before.note.then("UPDATE", hash=_hash(text), **changed))
            await self._engine.replace(scope, id, text, at=at, note=after.note.plain())
        self._index.put(self._entry(after))
        return after

    async def delete(self, id: str) -> None:
        """Forget a memory; what happened to it is still told, without its text.

        Raises:
            NotFoundError: this tenant has none of that id.
        """
        before = await self.get(id)
        await self._forget(Scope(self._tenant, before.owner.memory), [id])
        events = before.note.then("DELETE").plain()["events"]
        self._index.put(IndexEntry(tenant=self._tenant, kind=DELETED, id=id, data={"events": events}))

    async def history(self, id: str) -> list[Change]:
        """What happened to a memory, oldest first; only what it says now has its text.

        Raises:
            NotFoundError: this tenant has and had none of that id.
        """
        gone = self._index.get(self._tenant, DELETED, id)
        kept = None if gone is not None else await self.get(id)
        events = (
            [Event.model_validate(one) for one in gone.data["events"]] if gone is not None else kept.note.events if kept else []
        )
        newest = max((number for number, one in enumerate(events) if one.event != "DELETE"), default=None)
        return [
            Change(
                id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{id} {number}")),
                memory_id=id,
                event=one.event,
                new_memory=kept.text if kept is not None and number == newest else None,
                created_at=one.at,
                updated_at=one.at,
                is_deleted=one.event == "DELETE",
            )
            for number, one in enumerate(events)
        ]

    # -- several ---------------------------------------------------------------------------------------------------

    async def matching(self, filters: Mapping[str, Any]) -> list[Kept]:
        """Memories for which a filter holds, the newest first, without their texts."""
        _check_owner(filters)
        found = [
            one for scope in await self._scopes(filters) for one in await self._of_scope(scope) if verdict(filters, one.fields())
        ]
        return sorted(found, key=lambda one: (one.note.created_at, one.id), reverse=True)

    async def with_texts(self, kept: Sequence[Kept]) -> list[Kept]:
        """The same memories with their texts; one that was deleted meanwhile is left out."""
        texts = []
        for one in kept:
            try:
                texts.append(replace(one, text=await self._engine.text(Scope(self._tenant, one.owner.memory), one.id)))
            except NotFoundError:
                continue
        return texts

    async def search(self, query: str, filters: Mapping[str, Any], *, top_k: int, threshold: float | None) -> list[Kept]:
        """Memories that a question would read, best score first; no answer is made.

        Raises:
            BadRequestError: the filter names nobody, or too many.
        """
        _check_owner(filters)
        scopes = await self._scopes(filters)
        if len(scopes) > MOST_SEARCHED:
            raise BadRequestError(
                f"the filter means {len(scopes)} combinations of ids, a search reads at most {MOST_SEARCHED}; name agent_id or run_id too",
                param="filters",
            )
        found: dict[str, Kept] = {}
        for scope in scopes:
            owner = Owner.of_memory(scope.memory)
            assert owner is not None, "scopes of mem0 have an owner"
            for hit in await self._engine.search(scope, query, top_k=max(top_k, FOUND_AT_FIRST)):
                kept = Kept.of_source(owner, hit.source, hit.note)
                if kept is not None and verdict(filters, kept.fields()) and (threshold is None or hit.score >= threshold):
                    found.setdefault(kept.id, replace(kept, score=hit.score))
        best = sorted(found.values(), key=lambda one: one.score or 0.0, reverse=True)
        return await self.with_texts(best[:top_k])

    async def delete_all(self, owner: Owner) -> int:
        """Forget all memories that have all of these ids; how many there were.

        Raises:
            BadRequestError: no id is given.
        """
        _check_owner(owner.ids)
        return await self._delete_matching(owner.ids)

    async def reset(self) -> int:
        """Forget all that mem0 wrote for this tenant, and what was deleted before; how many memories there were."""
        count = await self._delete_matching({})
        for entry in self._index.list(self._tenant, DELETED):
            self._index.delete(self._tenant, DELETED, entry.id)
        return count

    async def entities(self) -> list[Entity]:
        """Users, agents, apps and runs that have memories, by type and id."""
        found: dict[tuple[str, str], Entity] = {}
        for entry in self._index.list(self._tenant, KIND):
            owner = Owner.of_memory(entry.memory or "")
            for type, name in TYPES.items():
                if owner is not None and (id := owner.ids.get(name)):
                    entity = found.setdefault((type, id), Entity(type=type, id=id))
                    entity.total_memories += 1
                    entity.created_at = min(entity.created_at, entry.created_at)
                    entity.updated_at = max(entity.updated_at, entry.data.get("updated_at") or entry.created_at)
        return [found[key] for key in sorted(found)]

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _found(self, id: str) -> tuple[Scope, SourceRecord]:
        entry = self._index.get(self._tenant, KIND, id)
        if entry is None or entry.memory is None:
            raise _unknown(id)
        scope = Scope(self._tenant, entry.memory)
        try:
            return scope, await self._engine.source(scope, id)
        except NotFoundError:
            raise _unknown(id) from None

    async def _scopes(self, filters: Mapping[str, Any]) -> list[Scope]:
        """Memories in which a filter may hold."""
        found = []
        for record in await self._engine.memories(self._tenant):
            owner = Owner.of_memory(record.id)
            if owner is not None and verdict(filters, owner.ids, is_all=False) is not False:
                found.append(Scope(self._tenant, record.id))
        return found

    async def _of_scope(self, scope: Scope) -> list[Kept]:
        owner = Owner.of_memory(scope.memory)
        try:
            records = await self._engine.sources(scope)
        except UnknownMemoryError:  # deleted meanwhile
            return []
        read = [] if owner is None else [Kept.of_source(owner, one.name, one.note) for one in records]
        return [one for one in read if one is not None]

    async def _delete_matching(self, filters: Mapping[str, Any]) -> int:
        count = 0
        for scope in await self._scopes(filters):
            names = [one.id for one in await self._of_scope(scope) if verdict(filters, one.fields())]
            if names:
                await self._forget(scope, names)
                count += len(names)
        return count

    async def _forget(self, scope: Scope, names: list[str]) -> None:
        """Forget sources and their ids."""
        await self._engine.forget(scope, names)
        self._index.delete_source(self._tenant, scope.memory, names)

    def _entry(self, kept: Kept) -> IndexEntry:
        changed = kept.note.updated_at
        return IndexEntry(
            tenant=self._tenant,
            kind=KIND,
            id=kept.id,
            memory=kept.owner.memory,
            source=kept.id,
            created_at=kept.note.created_at.timestamp(),
            data={} if changed is None else {"updated_at": changed.timestamp()},
        )


def _check_owner(filters: Mapping[str, Any]) -> None:
    check(filters)
    if not names_an_owner(filters):
        raise BadRequestError(f"at least one of {', '.join(FIELDS)} is needed; say whose memories are meant", param="filters")


def _unknown(id: str) -> NotFoundError:
    return NotFoundError("Memory not found", code="memory_not_found", param="memory_id")


def _hash(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
