"""Paths of mem0's cloud that its own client (``MemoryClient(host=...)``) calls, of versions 0.1 and 2. Knows no storage.

They end in a slash: ``/v1/memories`` without one is the server's own. Exports, projects, profiles, webhooks and feedback are not here.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from mplus.server.mem0 import bodies
from mplus.server.mem0.catalogue import Change
from mplus.server.mem0.open_source import (
    REFUSED,
    EntityId,
    EntityType,
    Kept,
    MemoryId,
    Whose,
    add,
    listed,
    search,
    update,
)
from mplus.server.mem0.owners import TYPES, Owner
from mplus.server.raw_path import RawPathRoute

router = APIRouter(tags=["mem0 client"], route_class=RawPathRoute)
PageNumber = Annotated[int | None, Query(ge=1, le=1_000_000)]
PageSize = Annotated[int | None, Query(ge=1, le=1000)]
MOST = 1000
"""Memories in an answer that has no pages."""


@router.get("/v1/ping/", summary="Check a key")
async def ping(kept: Kept) -> bodies.Ping:
    """Say that the key is known."""
    return bodies.Ping()


@router.post("/v1/memories/", summary="Add memories (client 0.1)", responses=REFUSED)
@router.post("/v3/memories/add/", summary="Add memories (client 2)", responses=REFUSED)
async def add_memories(kept: Kept, body: bodies.Add) -> bodies.AllAdded:
    """Keep each message as it is, at once; the answer is that of `infer=False`."""
    return await add(kept, body)


@router.get("/v1/memories/", summary="List memories (client 0.1)", responses=REFUSED)
async def list_memories(
    kept: Kept, owner: Whose, page: PageNumber = None, page_size: PageSize = None
) -> list[bodies.MemoryInfo] | bodies.Counted:
    """Memories that have all of the ids given; a list, or a page where one is asked for."""
    found = await listed(kept, dict(owner.ids), page=page or 1, size=page_size or (100 if page else MOST))
    return found if page or page_size else found.results


@router.post("/v2/memories/", summary="List memories by a filter (client 0.1)", responses=REFUSED)
async def list_filtered(
    kept: Kept, body: bodies.Filtered, page: PageNumber = None, page_size: PageSize = None
) -> list[bodies.MemoryInfo] | bodies.Counted:
    """Memories for which a filter holds; a list, or a page where one is asked for."""
    found = await listed(kept, body.all_filters(), page=page or 1, size=page_size or (100 if page else MOST))
    return found if page or page_size else found.results


@router.post("/v3/memories/", summary="List memories by a filter (client 2)", responses=REFUSED)
async def list_pages(kept: Kept, body: bodies.Filtered, page: PageNumber = None, page_size: PageSize = None) -> bodies.Counted:
    """A page of the memories for which a filter holds."""
    return await listed(kept, body.all_filters(), page=page or 1, size=page_size or 100)


@router.delete("/v1/memories/", summary="Delete the memories of an owner (client)", responses=REFUSED)
async def delete_memories(kept: Kept, owner: Whose) -> bodies.Done:
    """Forget all memories that have all of the ids given; without any id nothing is deleted."""
    await kept.delete_all(owner)
    return bodies.Done(message="Memories deleted successfully!")


@router.post("/v1/memories/search/", summary="Search memories (client 0.1, version v1)", responses=REFUSED)
@router.post("/v2/memories/search/", summary="Search memories (client 0.1, version v2)", responses=REFUSED)
async def search_list(kept: Kept, body: bodies.Search) -> list[bodies.MemoryInfo]:
    """Memories that a question would read, best score first."""
    return (await search(kept, body)).results


@router.post("/v3/memories/search/", summary="Search memories (client 2)", responses=REFUSED)
async def search_results(kept: Kept, body: bodies.Search) -> bodies.Results:
    """Memories that a question would read, best score first."""
    return await search(kept, body)


@router.get("/v1/memories/{memory_id}/", summary="Read a memory (client)", responses=REFUSED)
async def get_memory(kept: Kept, memory_id: MemoryId) -> bodies.MemoryInfo:
    """One memory with its text."""
    return bodies.MemoryInfo.of(await kept.get(memory_id))


@router.put("/v1/memories/{memory_id}/", summary="Change a memory (client)", responses=REFUSED)
async def update_memory(kept: Kept, memory_id: MemoryId, body: bodies.Update) -> bodies.Updated:
    """Give a memory another text, other metadata, or both."""
    return await update(kept, memory_id, body)


@router.delete("/v1/memories/{memory_id}/", summary="Delete a memory (client)", responses=REFUSED)
async def delete_memory(kept: Kept, memory_id: MemoryId) -> bodies.Done:
    """Forget a memory: its text and metadata are gone."""
    await kept.delete(memory_id)
    return bodies.Done(message="Memory deleted successfully!")


@router.get("/v1/memories/{memory_id}/history/", summary="Read what happened to a memory (client)", responses=REFUSED)
async def memory_history(kept: Kept, memory_id: MemoryId) -> list[Change]:
    """Changes, oldest first, without text that was replaced or deleted."""
    return await kept.history(memory_id)


@router.put("/v1/batch/", summary="Change several memories (client)", responses=REFUSED)
async def update_batch(kept: Kept, body: bodies.Batch) -> bodies.Done:
    """Change memories one after another; one that is not there is told before any is changed."""
    changes = [(one, one.update()) for one in body.memories]
    for one, change in changes:
        change.new_text()
        await kept.get(one.memory_id)
    for one, change in changes:
        await update(kept, one.memory_id, change)
    return bodies.Done(message=f"Successfully updated {len(changes)} memories")


@router.delete("/v1/batch/", summary="Delete several memories (client)", responses=REFUSED)
async def delete_batch(kept: Kept, body: bodies.Batch) -> bodies.Done:
    """Forget memories one after another; one that is not there is told before any is deleted."""
    ids = list(dict.fromkeys(one.memory_id for one in body.memories))
    for id in ids:
        await kept.get(id)
    for id in ids:
        await kept.delete(id)
    return bodies.Done(message=f"Successfully deleted {len(ids)} memories")


@router.get("/v1/entities/", summary="List users, agents, apps and runs (client)", responses=REFUSED)
async def list_entities(kept: Kept) -> bodies.Entities:
    """Who has memories, and how many."""
    found = [bodies.EntityInfo.of(one) for one in await kept.entities()]
    return bodies.Entities(results=found, count=len(found))


@router.delete("/v2/entities/{entity_type}/{entity_id}/", summary="Delete the memories of an entity (client)", responses=REFUSED)
async def delete_entity(kept: Kept, entity_type: EntityType, entity_id: EntityId) -> bodies.Done:
    """Forget all memories of a user, agent, app or run."""
    await kept.delete_all(Owner(**{TYPES[entity_type]: entity_id}))
    return bodies.Done(message="Entity deleted successfully!")
