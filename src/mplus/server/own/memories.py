"""``/v1/memories``: make, list, change, delete, fork, merge, save memories. Knows no source and no file."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Query

from mplus.server.auth import Caller, Served
from mplus.server.documented import errors
from mplus.server.metadata import checked_json
from mplus.server.own import bodies
from mplus.server.raw_path import RawPathRoute
from mplus.server.scope import Scope

router = APIRouter(prefix="/v1/memories", tags=["memories"], route_class=RawPathRoute)
After = Annotated[str | None, Query(description="the last one of the page before", examples=["alice"])]
Limit = Annotated[int, Query(ge=1, le=bodies.LARGEST_PAGE, description="how many are told at most")]


@router.post("", status_code=201, summary="Create a memory", responses=errors(409))
async def create_memory(caller: Caller, engine: Served, body: bodies.CreateMemory) -> bodies.Memory:
    """Make an empty memory."""
    id = f"mem_{secrets.token_hex(12)}" if body.id is None else body.id
    record = await engine.create(Scope(caller.tenant, id), metadata=checked_json(body.metadata, "metadata"))
    return bodies.Memory.of(record)


@router.get("", summary="List memories", responses=errors(400))
async def list_memories(caller: Caller, engine: Served, after: After = None, limit: Limit = 100) -> bodies.Page[bodies.Memory]:
    """All memories of the key's tenant, by id, a page at a time."""
    records = await engine.memories(caller.tenant)
    return bodies.page_of(records, lambda one: one.id, bodies.Memory.of, after=after, limit=limit)


@router.get("/{memory}", summary="Describe a memory", responses=errors(404))
async def get_memory(caller: Caller, engine: Served, memory: bodies.MemoryId) -> bodies.Memory:
    """Say how much a memory holds."""
    return bodies.Memory.of(await engine.memory(Scope(caller.tenant, memory)))


@router.patch("/{memory}", summary="Change a memory's metadata", responses=errors(404))
async def change_memory(caller: Caller, engine: Served, memory: bodies.MemoryId, body: bodies.ChangeMemory) -> bodies.Memory:
    """Give a memory other metadata in place of what it has."""
    scope = Scope(caller.tenant, memory)
    return bodies.Memory.of(await engine.set_metadata(scope, checked_json(body.metadata, "metadata")))


@router.delete("/{memory}", summary="Delete a memory", responses=errors(404))
async def delete_memory(caller: Caller, engine: Served, memory: bodies.MemoryId) -> bodies.Deleted:
    """Delete a memory with all that was written into it."""
    await engine.delete(Scope(caller.tenant, memory))
    return bodies.Deleted(id=memory, object="memory.deleted")


@router.post("/{memory}/fork", status_code=201, summary="Fork a memory", responses=errors(404, 409))
async def fork_memory(caller: Caller, engine: Served, memory: bodies.MemoryId, body: bodies.Fork) -> bodies.Memory:
    """Make a memory that begins as this one is now; neither changes the other later."""
    return bodies.Memory.of(await engine.fork(Scope(caller.tenant, memory), Scope(caller.tenant, body.id)))


@router.post("/{memory}/merge", summary="Take in another memory", responses=errors(404))
async def merge_memory(caller: Caller, engine: Served, memory: bodies.MemoryId, body: bodies.Merge) -> bodies.Merged:
    """Take in all sources of another memory of yours, by the time of their writes."""
    report = await engine.merge(Scope(caller.tenant, memory), Scope(caller.tenant, body.memory), prefix=body.prefix)
    return bodies.Merged(**report.to_json())


@router.post("/{memory}/snapshot", summary="Save a memory now", responses=errors(404))
async def save_memory(caller: Caller, engine: Served, memory: bodies.MemoryId) -> bodies.Memory:
    """Write a memory's snapshot, so that opening it after a restart replays no journal."""
    return bodies.Memory.of(await engine.snapshot(Scope(caller.tenant, memory)))
