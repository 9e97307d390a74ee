"""``POST /v1/chat/completions``, whole or as server-sent events."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from mplus.server.answers import Answering, AnswerRequest, AnswerResult
from mplus.server.auth import Caller, Served
from mplus.server.openai.exchange import Exchange, exchange_of
from mplus.server.openai.messages import Turn, chat_messages, turns_of
from mplus.server.openai.schemas import ChatRequest, check_model, refuse
from mplus.server.openai.stream import DONE, Event, EventStream, error_event, finished, unbroken, usage_json, whole

router = APIRouter(tags=["OpenAI"])


@router.post("/v1/chat/completions", response_model=None)
async def create_chat_completion(request: Request, body: ChatRequest, engine: Served, caller: Caller) -> Response:
    """Answer a chat, from a memory where one is named (`memory`, `conversation`, or the header `X-Memory-Id`).

    The client may send the new message only: what was said before is in the memory. Answers are greedy unless `temperature` is given.
    """
    check_model(body.model, engine.model.name)
    refuse(body)
    turns = turns_of(body.messages, "messages")
    exchange = await exchange_of(request, engine, caller.tenant, body, f"chatcmpl-{secrets.token_hex(12)}")
    sends_history = any(turn.role == "assistant" for turn in turns)
    asked = AnswerRequest(
        tenant=caller.tenant,
        scope=exchange.read,
        messages=chat_messages(turns if sends_history else [*exchange.before, *turns]),
        sampling=body.sampling,
    )
    form = ChatForm(exchange.id, engine.model.name, int(time.time()))
    answering = await engine.answer(exchange.details.of(asked))
    if body.stream:
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return EventStream(request, answering, _chunks(form, answering, exchange, turns, usage), error_event)
    result = await whole(request, answering)
    await unbroken(exchange.keep(turns, result))
    return JSONResponse({**form.completion(result), **exchange.memory(result)})


@dataclass(frozen=True)
class ChatForm:
    """The objects of one chat completion."""

    id: str
    model: str
    created: int

    def completion(self, result: AnswerResult) -> dict[str, Any]:
        """The whole."""
        message = {"role": "assistant", "content": result.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": result.finish}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage_json(result)}

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        """A piece."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def usage(self, result: AnswerResult) -> dict[str, Any]:
        """The last chunk, which has no piece."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_json(result)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


async def _chunks(
    form: ChatForm, answering: Answering, exchange: Exchange, turns: Sequence[Turn], with_usage: bool
) -> AsyncIterator[Event]:
    none_yet: dict[str, Any] = {"usage": None} if with_usage else {}
    yield Event(data={**form.chunk({"role": "assistant", "content": ""}), **none_yet})
    async for piece in answering:
        yield Event(data={**form.chunk({"content": piece}), **none_yet})
    result = await finished(answering)
    await unbroken(exchange.keep(turns, result))
    yield Event(data={**form.chunk({}, result.finish), **exchange.memory(result), **none_yet})
    if with_usage:
        yield Event(data=form.usage(result))
    yield Event(data=DONE)
