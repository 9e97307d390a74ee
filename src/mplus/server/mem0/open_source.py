"""Paths of mem0's open-source server: ``/memories``, ``/search``, ``/entities``, ``/reset``. Knows no storage."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query

from mplus.server.auth import Caller, Served
from mplus.server.documented import Mem0Error, errors
from mplus.server.errors import BadRequestError
from mplus.server.mem0 import bodies
from mplus.server.mem0.catalogue import Catalogue, Change
from mplus.server.mem0.filters import check
from mplus.server.mem0.owners import TYPES, Owner
from mplus.server.metadata import checked_json
from mplus.server.raw_path import RawPathRoute

router = APIRouter(tags=["mem0"], route_class=RawPathRoute)
EntityType = Literal["user", "agent", "app", "run"]
MemoryId = Annotated[str, Path(description="uuid of a memory", examples=["0b0f0e39-6f3b-4f0e-8d3f-0d8a5c5b7b11"])]
EntityId = Annotated[str, Path(description="a slash in it is sent as %2F", examples=["alice"])]
Named = Annotated[str | None, Query(max_length=256)]
FilterText = Annotated[str | None, Query(description='JSON of a filter: {"topic": "home"}')]
REFUSED = errors(404, 422, form=Mem0Error)


async def catalogue_of(caller: Caller, engine: Served) -> Catalogue:
    """mem0's memories of who asks."""
    return Catalogue(engine, caller.tenant)


async def owner_of(user_id: Named = None, agent_id: Named = None, app_id: Named = None, run_id: Named = None) -> Owner:
    """The ids of a query."""
    return Owner(user_id=user_id, agent_id=agent_id, app_id=app_id, run_id=run_id)


Kept = Annotated[Catalogue, Depends(catalogue_of)]
Whose = Annotated[Owner, Depends(owner_of)]


@router.post("/memories", summary="Add memories", responses=REFUSED)
async def add_memories(kept: Kept, body: bodies.Add) -> bodies.AllAdded:
    """Keep each message, or a text, as it is: no language model reads it, and it is on the disk when this returns."""
    metadata = checked_json(body.metadata or {}, "metadata")
    added = await kept.add(body.owner(), body.said(), metadata, body.timestamp)
    return bodies.AllAdded(results=[bodies.Added.of(one) for one in added])


@router.get("/memories", summary="List memories", responses=REFUSED)
async def list_memories(
    kept: Kept,
    owner: Whose,
    filters: FilterText = None,
    top_k: Annotated[int | None, Query(ge=1, le=1000)] = None,
    limit: Annotated[int | None, Query(ge=1, le=1000, description="the same as top_k")] = None,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> bodies.Counted:
    """Memories that have all of the ids given, the newest first, a page at a time."""
    return await listed(kept, {**_filter_of(filters), **owner.ids}, page=page, size=top_k or limit or 100)


@router.get("/memories/{memory_id}", summary="Read a memory", responses=REFUSED)
async def get_memory(kept: Kept, memory_id: MemoryId) -> bodies.MemoryInfo:
    """One memory with its text."""
    return bodies.MemoryInfo.of(await kept.get(memory_id))


@router.put("/memories/{memory_id}", summary="Change a memory", responses=REFUSED)
async def update_memory(kept: Kept, memory_id: MemoryId, body: bodies.Update) -> bodies.Updated:
    """Give a memory another text, other metadata, or both; nothing of the text before stays."""
    return await update(kept, memory_id, body)


@router.delete("/memories/{memory_id}", summary="Delete a memory", responses=REFUSED)
async def delete_memory(kept: Kept, memory_id: MemoryId) -> bodies.Done:
    """Forget a memory: its text and metadata are gone; its history keeps times only."""
    await kept.delete(memory_id)
    return bodies.Done(message="Memory deleted successfully!")


@router.get("/memories/{memory_id}/history", summary="Read what happened to a memory", responses=REFUSED)
async def memory_history(kept: Kept, memory_id: MemoryId) -> list[Change]:
    """Changes, oldest first. Only the text that the memory has now is told, never one that was replaced or deleted."""
    return await kept.history(memory_id)


@router.delete("/memories", summary="Delete the memories of an owner", responses=REFUSED)
async def delete_memories(kept: Kept, owner: Whose) -> bodies.Done:
    """Forget all memories that have all of the ids given; without any id nothing is deleted."""
    count = await kept.delete_all(owner)
    return bodies.Done(message=f"Memories deleted successfully! ({count})")


@router.post("/memories/search", summary="Search memories (other path)", responses=REFUSED)
@router.post("/search", summary="Search memories", responses=REFUSED)
async def search_memories(kept: Kept, body: bodies.Search) -> bodies.Results:
    """Memories that a question would read, best score first; no answer is made."""
    found = await kept.search(body.query, body.all_filters(), top_k=body.most(), threshold=body.threshold)
    return bodies.Results(results=[bodies.MemoryInfo.of(one) for one in found])


@router.get("/entities", summary="List users, agents, apps and runs", responses=REFUSED)
async def list_entities(kept: Kept) -> list[bodies.EntityInfo]:
    """Who has memories, and how many."""
    return [bodies.EntityInfo.of(one) for one in await kept.entities()]


@router.delete("/entities/{entity_type}/{entity_id}", summary="Delete the memories of an entity", responses=REFUSED)
async def delete_entity(kept: Kept, entity_type: EntityType, entity_id: EntityId) -> bodies.Done:
    """Forget all memories of a user, agent, app or run."""
    await kept.delete_all(Owner(**{TYPES[entity_type]: entity_id}))
    return bodies.Done(message="Entity deleted")


@router.post("/reset", summary="Delete all memories of the tenant", responses=REFUSED)
async def reset(kept: Kept) -> bodies.Done:
    """Forget all that was added by mem0's paths with this key's tenant, and nothing of anybody else."""
    await kept.reset()
    return bodies.Done(message="All memories reset")


# -- what both sides do --------------------------------------------------------------------------------------------------


async def listed(kept: Catalogue, filters: dict[str, Any], *, page: int, size: int) -> bodies.Counted:
    """One page of the memories for which a filter holds."""
    found = await kept.matching(filters)
    chosen = await kept.with_texts(found[(page - 1) * size : page * size])
    return bodies.Counted(
        count=len(found),
        next=str(page + 1) if page * size < len(found) else None,
        previous=str(page - 1) if page > 1 else None,
        results=[bodies.MemoryInfo.of(one) for one in chosen],
    )


async def update(kept: Catalogue, id: str, body: bodies.Update) -> bodies.Updated:
    """Change a memory as a client wants it."""
    metadata = None if body.metadata is None else checked_json(body.metadata, "metadata")
    after = await kept.update(id, body.new_text(), metadata, body.timestamp)
    return bodies.Updated(**bodies.MemoryInfo.of(after).model_dump())


def _filter_of(text: str | None) -> dict[str, Any]:
    """The filter of a query.

    Raises:
        BadRequestError: it is no JSON.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise BadRequestError('filters is no JSON; give an object, such as {"topic": "home"}', param="filters") from None
    check(found)
    return dict(found)
