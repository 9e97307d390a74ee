"""``/v1/responses``: answers that are kept, gone on from, read again and deleted."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from mplus.runtime.unicode import well_formed
from mplus.server.answers import Answering, AnswerRequest, AnswerResult
from mplus.server.auth import Caller, Served
from mplus.server.errors import BadRequestError
from mplus.server.openai.items import Item, item_of, new_id, page_of
from mplus.server.openai.messages import Turn, chat_messages, input_turns
from mplus.server.openai.response_form import ResponseForm, request_json, response_json
from mplus.server.openai.response_plan import ResponsePlan, plan_of
from mplus.server.openai.schemas import ResponseRequest, check_model, refuse
from mplus.server.openai.stream import Event, EventStream, finished, unbroken, whole
from mplus.server.openai.threads import delete_response, find_response

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/responses", response_model=None)
async def create_response(request: Request, body: ResponseRequest, engine: Served, caller: Caller) -> Response:
    """Answer, and keep question and answer in a memory unless `store` is false.

    The memory is that of `conversation` or `previous_response_id`, else the one named by `memory.id` or `X-Memory-Id`, else a new one.
    """
    check_model(body.model, engine.model.name)
    refuse(body)
    turns = input_turns(body.input)
    plan = await plan_of(request, engine, caller.tenant, body, new_id("resp"))
    try:
        asked_for = request_json(body, engine.model.name, plan.conversation, is_stored=plan.is_stored)
        form = ResponseForm(id=plan.id, item=new_id("msg"), request=asked_for)
        system = [Turn(role="system", text=well_formed(body.instructions))] if body.instructions else []
        asked = AnswerRequest(
            tenant=caller.tenant,
            scope=plan.read,
            messages=chat_messages([*system, *plan.before, *turns]),
            sampling=body.sampling,
        )
        answering = await engine.answer(plan.details.of(asked))
        if body.stream:
            return EventStream(request, answering, _events(form, plan, turns, answering), form.failure, plan.close)
        result = await whole(request, answering)
        response = await unbroken(_kept(form, plan, turns, result))
    except BaseException:
        await unbroken(plan.close())
        raise
    await plan.close()
    return JSONResponse(response)


@router.get("/v1/responses/{response_id}")
async def retrieve_response(response_id: str, engine: Served, caller: Caller, stream: bool = False) -> dict[str, Any]:
    """Read a response again."""
    if stream:
        raise BadRequestError("a response that is kept is not streamed again; leave stream out", param="stream")
    stored = await find_response(engine, caller.tenant, response_id)
    output = await item_of(engine, stored.thread.scope, stored.output)
    return response_json(response_id, output.answer or {}, [output.to_json()])


@router.delete("/v1/responses/{response_id}")
async def delete_stored_response(response_id: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Forget a response with what was asked, in its memory and in the branches made of it."""
    await delete_response(engine, await find_response(engine, caller.tenant, response_id))
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/v1/responses/{response_id}/input_items")
async def list_input_items(
    response_id: str, engine: Served, caller: Caller, after: str | None = None, limit: int = 20, order: str = "desc"
) -> dict[str, Any]:
    """List what was asked."""
    stored = await find_response(engine, caller.tenant, response_id)
    return await page_of(engine, stored.thread.scope, stored.inputs, after=after, limit=limit, order=order)


@router.post("/v1/responses/{response_id}/cancel")
async def cancel_response(response_id: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Refuse: only what is made in the background could be cancelled, and nothing is."""
    await find_response(engine, caller.tenant, response_id)
    raise BadRequestError(
        "only a response that is made in the background can be cancelled; to stop a stream, close it", param="response_id"
    )


async def _kept(form: ResponseForm, plan: ResponsePlan, turns: Sequence[Turn], result: AnswerResult) -> dict[str, Any]:
    """Write the exchange; returns the response object."""
    answer = form.answer(result)
    output = Item(
        id=form.item,
        role="assistant",
        text=result.text,
        created_at=time.time(),
        status=answer["status"],
        response=plan.id,
        answer=answer,
    )
    await plan.keep(turns, output)
    return {**response_json(plan.id, answer, [output.to_json()]), **plan.details.memory_json(plan.memory, result)}


async def _events(form: ResponseForm, plan: ResponsePlan, turns: Sequence[Turn], answering: Answering) -> AsyncIterator[Event]:
    for event in form.opening():
        yield event
    async for piece in answering:
        yield form.piece(piece)
    result = await finished(answering)
    for event in form.closing(result, await unbroken(_kept(form, plan, turns, result))):
        yield event
