"""``/v1/memories/{id}/search`` and ``/trace``: what a question would read of a memory. Knows no source's note."""

from __future__ import annotations

from fastapi import APIRouter

from mplus.memory.selection import ReadScope
from mplus.server.answers import AnswerRequest, Sampling
from mplus.server.auth import Caller, Served
from mplus.server.documented import errors
from mplus.server.own import bodies
from mplus.server.raw_path import RawPathRoute
from mplus.server.scope import Scope
from mplus.trace.trace import Trace

router = APIRouter(prefix="/v1/memories/{memory}", tags=["memories"], route_class=RawPathRoute)


@router.post("/search", summary="Search a memory", responses=errors(400, 404))
async def search_memory(
    caller: Caller, engine: Served, memory: bodies.MemoryId, body: bodies.Search
) -> bodies.Page[bodies.Found]:
    """Passages that a prompt would read, best score first; no answer is made. A source appears once."""
    hits = await engine.search(Scope(caller.tenant, memory), body.query, top_k=body.top_k)
    return bodies.page_of(hits, lambda one: one.source, bodies.Found.of, after=None, limit=body.top_k)


@router.post("/trace", summary="Trace what a question reads", responses=errors(400, 404))
async def trace_question(caller: Caller, engine: Served, memory: bodies.MemoryId, body: bodies.AskTrace) -> bodies.Traced:
    """Passages that a question reads, with scores, and its answer if that is wanted. Nothing is written."""
    sampling = Sampling(max_tokens=body.max_tokens if body.answer else 1)
    wanted = (body.sources, bodies.seconds_of(body.before), bodies.seconds_of(body.after))
    answering = await engine.answer(
        AnswerRequest(
            tenant=caller.tenant,
            scope=Scope(caller.tenant, memory),
            reads=None if wanted == (None, None, None) else ReadScope.of(*wanted),
            rounds=body.rounds,
            messages=[{"role": "user", "content": body.question}],
            sampling=sampling,
            trace=True,
            confidence=body.confidence,
            min_confidence=body.min_confidence,
        )
    )
    result = await answering.result()
    trace = result.trace or Trace(note="nothing was read")
    return bodies.Traced(
        answer=result.text if body.answer else None,
        confidence=result.confidence,
        refused=result.is_refused,
        trace=trace.to_json(),
    )
