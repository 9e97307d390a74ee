"""``/v1/jobs``: how far a long write is, its events, its end. Knows no text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from mplus.server.auth import Caller, Served
from mplus.server.documented import errors
from mplus.server.own import bodies
from mplus.server.own.jobs import Job
from mplus.server.own.writing import job_body, jobs_of

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
QUIET_S = 15.0
"""After so long without news a comment is sent, so that nothing in between closes the connection."""
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events `progress`, the last one `done`; each has the job.", "content": {"text/event-stream": {}}}
}


@router.get("", summary="List jobs")
async def list_jobs(request: Request, caller: Caller, engine: Served) -> bodies.Page[bodies.Job]:
    """The jobs of the key's tenant that wait, run or ended not long ago, oldest first."""
    found = jobs_of(request).all_of(engine.index, caller.tenant)
    return bodies.page_of(found, lambda one: one.id, job_body, after=None, limit=len(found) or 1)


@router.get("/{job}", summary="Describe a job", responses=errors(404))
async def get_job(request: Request, caller: Caller, engine: Served, job: str) -> bodies.Job:
    """Say how far a job is, or what became of it."""
    return job_body(jobs_of(request).of(engine.index, caller.tenant, job))


@router.delete("/{job}", summary="Cancel a job", responses=errors(404))
async def cancel_job(request: Request, caller: Caller, engine: Served, job: str) -> bodies.Job:
    """Stop a job: nothing of its text stays. One that has ended is as it is."""
    found = jobs_of(request).of(engine.index, caller.tenant, job)
    found.cancel()
    return job_body(found)


@router.get("/{job}/events", summary="Watch a job", response_class=StreamingResponse, responses={**STREAM, **errors(404)})
async def job_events(request: Request, caller: Caller, engine: Served, job: str) -> StreamingResponse:
    """Progress as server-sent events, until the job ends."""
    found = jobs_of(request).of(engine.index, caller.tenant, job)
    return StreamingResponse(_events(found), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(job: Job) -> AsyncIterator[str]:
    async for changed in job.changes(QUIET_S):
        name = "done" if job.has_ended else "progress"
        yield f"event: {name}\ndata: {job_body(job).model_dump_json()}\n\n" if changed or job.has_ended else ": still at it\n\n"
