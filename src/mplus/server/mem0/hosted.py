"""Paths of mem0's cloud that its own client (``MemoryClient(host=...)``) calls, of versions 0.1 and 2. Knows no storage.

They end in a slash: ``/v1/memories`` without one is the server's own. Exports, projects, profiles, webhooks and feedback are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from mplus.server.mem0 import bodies
from mplus.server.mem0.open_source import (
    REFUSED,
    EntityId,
    EntityType,
    Kept,
    Whose,
    add_memories,
    delete_memory,
    get_memory,
    listed,
    memory_history,
    search_memories,
    update,
    update_memory,
)
from mplus.server.mem0.owners import TYPES, Owner
from mplus.server.raw_path import RawPathRoute

router = APIRouter(tags=["mem0 client"], route_class=RawPathRoute)
PageNumber = Annotated[int | None, Query(ge=1, le=1_000_000)]
PageSize = Annotated[int | None, Query(ge=1, le=1000)]
MOST = 1000
"""Memories in an answer that has no pages."""


SAME: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
    ("POST", "/v1/memories/", "Add memories (client 0.1)", add_memories),
    ("POST", "/v3/memories/add/", "Add memories (client 2)", add_memories),
    ("POST", "/v3/memories/search/", "Search memories (client 2)", search_memories),
    ("GET", "/v1/memories/{memory_id}/", "Read a memory (client)", get_memory),
    ("PUT", "/v1/memories/{memory_id}/", "Change a memory (client)", update_memory),
    ("DELETE", "/v1/memories/{memory_id}/", "Delete a memory (client)", delete_memory),
    ("GET", "/v1/memories/{memory_id}/history/", "Read what happened to a memory (client)", memory_history),
)
"""Method, path, summary: what the open-source server does under another path."""
for method, path, summary, handler in SAME:
    router.add_api_route(path, handler, methods=[method], summary=summary, responses=REFUSED)


@router.get("/v1/ping/", summary="Check a key")
async def ping(kept: Kept) -> bodies.Ping:
    """Say that the key is known."""
    return bodies.Ping()


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
    return (await search_memories(kept, body)).results


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
