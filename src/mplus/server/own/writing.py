"""Writes of the own side: at once, or as a job where they are long. Knows no form of a body."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.responses import JSONResponse

from mplus.server.engine import Engine
from mplus.server.memories.changes import WriteResult
from mplus.server.own import bodies
from mplus.server.own.jobs import Job, Jobs, Kind, Work
from mplus.server.own.text_bodies import GivenText
from mplus.server.scope import Scope, checked_id, digest_of

JOB_FROM_CHARACTERS = 100_000
"""A longer text is a job unless its client wants to wait: some 25,000 tokens, a minute on one core."""
COUNTED_AT_ONCE = 100_000
"""Characters that are tokenised at once to count them; a whole book takes much RAM."""
Wait = Annotated[bool | None, Query(description="false: as a job; true: not as one, however long; else by its length")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=256, description="the same key again writes nothing again"),
]


def jobs_of(request: Request) -> Jobs:
    """The jobs of this server."""
    jobs: Jobs = request.app.state.jobs
    return jobs


async def written(
    request: Request, engine: Engine, scope: Scope, given: GivenText, *, wait: bool | None, key: str | None
) -> Response:
    """Write a text at the end of a source, and tell what came of it or which job it is."""
    source = _made_up(key) if given.source is None else checked_id(given.source, "source")

    async def work(progress: Callable[[int], None], cancelled: Callable[[], bool]) -> WriteResult:
        return await engine.write(
            scope,
            given.text,
            source=source,
            at=given.at,
            note=given.note,
            key=key,
            progress=progress,
            cancelled=cancelled,
        )

    if is_job(given.text, wait):
        return await _job(request, engine, scope, "write", source, given.text, work)
    return _response(await work(lambda tokens: None, lambda: False))


async def replaced(
    request: Request, engine: Engine, scope: Scope, source: str, given: GivenText, *, wait: bool | None
) -> Response:
    """Put a text in the place of a source's, and tell what came of it or which job it is."""
    await engine.source(scope, source)

    async def work(progress: Callable[[int], None], cancelled: Callable[[], bool]) -> WriteResult:
        await engine.replace(
            scope,
            source,
            given.text,
            at=given.at,
            note=given.note,
            progress=progress,
            cancelled=cancelled,
        )
        record, memory = await engine.source(scope, source), await engine.memory(scope)
        return WriteResult(source=source, tokens=record.tokens, total_tokens=memory.tokens)

    if is_job(given.text, wait):
        return await _job(request, engine, scope, "replace", source, given.text, work)
    return _response(await work(lambda tokens: None, lambda: False), status=200)


def is_job(text: str, wait: bool | None) -> bool:
    """Whether a write is one that its client does not wait for."""
    return len(text) > JOB_FROM_CHARACTERS if wait is None else not wait


async def _job(request: Request, engine: Engine, scope: Scope, kind: Kind, source: str, text: str, work: Work) -> Response:
    jobs = jobs_of(request)
    job = jobs.start(engine.index, scope, kind, source, work, lambda: count_tokens(engine, text))
    return JSONResponse(job_body(job).model_dump(), status_code=202, headers={"Location": f"/v1/jobs/{job.id}"})


def count_tokens(engine: Engine, text: str) -> int:
    """How many tokens a text is, but for some where it is cut to count them."""
    parts = (text[start : start + COUNTED_AT_ONCE] for start in range(0, len(text), COUNTED_AT_ONCE))
    return sum(len(engine.model.tokenize(part)) for part in parts if part.strip())


def job_body(job: Job) -> bodies.Job:
    """A job as its client is told of it."""
    return bodies.Job(
        id=job.id,
        kind=job.kind,
        memory=job.scope.memory,
        source=job.source,
        status=job.status,
        created_at=job.created_at,
        ended_at=job.ended_at,
        tokens_done=job.tokens_done,
        tokens_total=job.tokens_total,
        tokens_per_s=job.tokens_per_s,
        time_left_s=job.time_left_s,
        result=None if job.result is None else bodies.Written(**asdict(job.result)),
        error=job.error,
    )


def _made_up(key: str | None) -> str:
    """A name for a text without one; the same for the same Idempotency-Key, so that it is the same write."""
    return f"text_{secrets.token_hex(12) if key is None else digest_of(key)[:24]}"


def _response(result: WriteResult, *, status: int = 201) -> Response:
    return JSONResponse(bodies.Written(**asdict(result)).model_dump(), status_code=status)
