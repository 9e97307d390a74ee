"""``POST /v1/completions``, whole or as server-sent events."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from mplus.server.answers import Answering, AnswerRequest
from mplus.server.auth import Caller, Served
from mplus.server.openai.exchange import Exchange, exchange_of
from mplus.server.openai.messages import Turn, prompt_text
from mplus.server.openai.schemas import CompletionRequest, check_model, refuse
from mplus.server.openai.stream import DONE, Event, EventStream, error_event, finished, unbroken, usage_json, whole

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/completions", response_model=None)
async def create_completion(request: Request, body: CompletionRequest, engine: Served, caller: Caller) -> Response:
    """Continue a text, from a memory where one is named. Answers are greedy unless `temperature` is given."""
    check_model(body.model, engine.model.name)
    refuse(body)
    prompt = prompt_text(body.prompt)
    turn = Turn(role="user", text=prompt.strip())
    exchange = await exchange_of(request, engine, caller.tenant, body, f"cmpl-{secrets.token_hex(12)}")
    asked = AnswerRequest(tenant=caller.tenant, scope=exchange.read, prompt=prompt, sampling=body.sampling)
    form = CompletionForm(exchange.id, engine.model.name, int(time.time()))
    answering = await engine.answer(exchange.details.of(asked))
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(request, answering, _chunks(form, answering, exchange, turn, usage), error_event)
    result = await whole(request, answering)
    await unbroken(exchange.keep([turn], result))
    whole_object = {**form.chunk(result.text, result.finish), "usage": usage_json(result), **exchange.memory(result)}
    return JSONResponse(whole_object)


@dataclass(frozen=True)
class CompletionForm:
    """The objects of one text completion; pieces have the form of the whole."""

    id: str
    model: str
    created: int

    def chunk(self, text: str, finish: str | None = None) -> dict[str, Any]:
        """A piece, or the whole."""
        return self.head([{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}])

    def head(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """What all of them have."""
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model, "choices": choices}


async def _chunks(
    form: CompletionForm, answering: Answering, exchange: Exchange, turn: Turn, with_usage: bool
) -> AsyncIterator[Event]:
    none_yet: dict[str, Any] = {"usage": None} if with_usage else {}
    async for piece in answering:
        yield Event(data={**form.chunk(piece), **none_yet})
    result = await finished(answering)
    await unbroken(exchange.keep([turn], result))
    yield Event(data={**form.chunk("", result.finish), **exchange.memory(result), **none_yet})
    if with_usage:
        yield Event(data={**form.head([]), "usage": usage_json(result)})
    yield Event(data=DONE)
