"""``/v1/memories/{id}/sources``: write, list, read, replace, forget what a memory holds. Knows no model."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from mplus.memory.selection import Where, chosen
from mplus.server.auth import Caller, Served
from mplus.server.documented import errors
from mplus.server.errors import BadRequestError
from mplus.server.metadata import checked_json
from mplus.server.own import bodies
from mplus.server.own.bodies import seconds_of
from mplus.server.own.memories import After, Limit
from mplus.server.own.text_bodies import REPLACE_BODY, WRITE_BODY, replacing_body, writing_body
from mplus.server.own.writing import Key, Wait, replaced, written
from mplus.server.raw_path import RawPathRoute
from mplus.server.scope import Scope

router = APIRouter(prefix="/v1/memories/{memory}", tags=["sources"], route_class=RawPathRoute)
JOB: dict[int | str, dict[str, Any]] = {202: {"model": bodies.Job, "description": "It goes on as a job."}}


@router.get("/sources", summary="List the sources of a memory", responses=errors(400, 404))
async def list_sources(
    caller: Caller, engine: Served, memory: bodies.MemoryId, after: After = None, limit: Limit = 100
) -> bodies.Page[bodies.Source]:
    """All sources in the order of their first write, a page at a time."""
    records = await engine.sources(Scope(caller.tenant, memory))
    return bodies.page_of(records, lambda one: one.name, bodies.Source.of, after=after, limit=limit)


@router.post(
    "/sources",
    status_code=201,
    summary="Write a text or a file",
    response_model=bodies.Written,
    responses={**JOB, **errors(400, 409, 413, 429)},
    openapi_extra=WRITE_BODY,
)
async def write_source(
    request: Request, caller: Caller, engine: Served, memory: bodies.MemoryId, wait: Wait = None, key: Key = None
) -> Response:
    """Read a text (JSON) or a file (text, Markdown, HTML, PDF, Word) into a memory, which is made where there is none.

    The text goes on at the end of a source of the same name. It is on the disk when this returns. A long one, or any with `wait=false`, is
    a job: 202, and its address in `Location`.
    """
    scope = Scope(caller.tenant, memory)
    return await written(request, engine, scope, await writing_body(request), wait=wait, key=key)


@router.get("/sources/{source:path}", summary="Describe a source", responses=errors(404))
async def get_source(caller: Caller, engine: Served, memory: bodies.MemoryId, source: bodies.SourceName) -> bodies.Source:
    """Say how long a source is, when it was written, and what is noted of it."""
    return bodies.Source.of(await engine.source(Scope(caller.tenant, memory), source))


@router.put(
    "/sources/{source:path}",
    summary="Replace a source",
    response_model=bodies.Written,
    responses={**JOB, **errors(400, 404, 413, 429)},
    openapi_extra=REPLACE_BODY,
)
async def replace_source(
    request: Request,
    caller: Caller,
    engine: Served,
    memory: bodies.MemoryId,
    source: bodies.SourceName,
    wait: Wait = None,
) -> Response:
    """Put another text (JSON) or file in the place of a source's, in one step: whole or not at all."""
    scope = Scope(caller.tenant, memory)
    return await replaced(request, engine, scope, source, await replacing_body(request), wait=wait)


@router.patch("/sources/{source:path}", summary="Change what is noted of a source", responses=errors(404))
async def change_source(
    caller: Caller, engine: Served, memory: bodies.MemoryId, source: bodies.SourceName, body: bodies.ChangeSource
) -> bodies.Source:
    """Give a source another note in place of what it has."""
    scope = Scope(caller.tenant, memory)
    await engine.note(scope, source, checked_json(body.note, "note"))
    return bodies.Source.of(await engine.source(scope, source))


@router.delete("/sources/{source:path}", summary="Forget a source", responses=errors(404))
async def delete_source(caller: Caller, engine: Served, memory: bodies.MemoryId, source: bodies.SourceName) -> bodies.Deleted:
    """Forget a source: its text, its rows, its note."""
    await engine.forget(Scope(caller.tenant, memory), [source])
    return bodies.Deleted(id=source, object="memory.source.deleted")


@router.get("/text", summary="Read the text of a source", response_class=PlainTextResponse, responses=errors(404))
async def get_text(
    caller: Caller,
    engine: Served,
    memory: bodies.MemoryId,
    source: Annotated[str, Query(description="the source's name", examples=["notes/2026-05"])],
) -> PlainTextResponse:
    """The whole text of a source, as it was written."""
    return PlainTextResponse(await engine.text(Scope(caller.tenant, memory), source))


@router.post("/forget", summary="Forget sources by name, pattern or time", responses=errors(400, 404))
async def forget_sources(caller: Caller, engine: Served, memory: bodies.MemoryId, body: bodies.Forget) -> bodies.Forgotten:
    """Forget several sources in one step, or (`dry_run`) say which ones would be."""
    scope = Scope(caller.tenant, memory)
    where = None
    if body.sources is None:
        where = Where(pattern=body.pattern, before=seconds_of(body.before), since=seconds_of(body.since))
    elif not (body.pattern is None and body.before is None and body.since is None):
        raise BadRequestError("sources are named and chosen by pattern or time too; give one of both", param="sources")
    if body.dry_run:
        records = await engine.sources(scope)
        names = chosen(records, body.sources, where)  # type: ignore[arg-type]  # a record has what is looked at
        tokens = sum(one.tokens for one in records if one.name in set(names))
        return bodies.Forgotten(dry_run=True, sources=names, tokens=tokens)
    report = await engine.forget(scope, body.sources, where=where)
    return bodies.Forgotten(dry_run=False, sources=report.sources, tokens=report.tokens, report=report.to_json())
