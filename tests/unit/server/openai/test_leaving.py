"""Laws of answers that do not come to their end: the client goes, the engine fails. Then nothing is written."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from typing import Any

import openai
import pytest
from openai import OpenAI

from mplus.errors import PromptTooLongError
from mplus.server.answers import Answering, AnswerRequest, AnswerResult
from mplus.server.scope import Scope
from tests.unit.server.openai.conftest import Server

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


class Endless:
    """An engine's ``answer`` that gives a piece and then nothing until it is cancelled."""

    def __init__(self, server: Server) -> None:
        self.server, self.begun, self.cancelled = server, threading.Event(), threading.Event()

    async def __call__(self, request: AnswerRequest) -> Answering:
        answering = Answering(self.server.engine.loop, self.cancel)
        answering.put("He")
        self.answering = answering
        self.begun.set()
        return answering

    def cancel(self) -> None:
        self.cancelled.set()
        self.answering.end(AnswerResult(text="He", finish="cancelled", prompt_tokens=1, completion_tokens=1))


@pytest.fixture
def endless(server: Server, monkeypatch: pytest.MonkeyPatch) -> Endless:
    one = Endless(server)
    monkeypatch.setattr(server.engine, "answer", one)
    return one


@pytest.fixture
def memory(server: Server) -> str:
    name = f"left-{uuid.uuid4()}"
    server.run(server.engine.create(Scope("ana", name)))
    return name


def failing(error: Exception) -> Any:
    async def answer(request: AnswerRequest) -> Answering:
        answering = Answering(asyncio.get_running_loop())
        answering.put("He")
        answering.fail(error)
        return answering

    return answer


KINDS = ("chat", "text", "response")


def stream_of(kind: str, server: Server, client: OpenAI, memory: str) -> Any:
    """A stream of the client's whose turns are to be written."""
    asked: dict[str, Any] = {"model": server.engine.model.name, "stream": True}
    own = {"memory": {"id": memory, "write": "both"}}
    match kind:
        case "chat":
            return client.chat.completions.create(**asked, **CHAT, extra_body=own)
        case "text":
            return client.completions.create(**asked, prompt="Hello", extra_body=own)
        case _:
            return client.responses.create(**asked, input="Hello", extra_body=own)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_goes_stops_its_answer_and_nothing_is_written(
    server: Server, client: OpenAI, endless: Endless, memory: str, kind: str
) -> None:
    stream = stream_of(kind, server, client, memory)
    next(iter(stream))
    assert not endless.cancelled.is_set()
    stream.close()
    assert endless.cancelled.wait(10)
    assert server.sources(memory) == {}


def test_a_client_that_goes_before_a_whole_answer_stops_it(server: Server, endless: Endless, memory: str) -> None:
    body = json.dumps({**CHAT, "memory": {"id": memory, "write": "both"}}).encode()
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.keys['ana']}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert endless.begun.wait(10)
        assert not endless.cancelled.is_set()
    assert endless.cancelled.wait(10)
    assert server.sources(memory) == {}


def test_a_client_that_goes_leaves_no_branch(server: Server, client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"model": server.engine.model.name, "max_output_tokens": 4}
    first = client.responses.create(input="One", **asked)
    client.responses.create(input="Two", previous_response_id=first.id, **asked)
    before = {one.id for one in server.run(server.engine.memories("ana"))}
    endless = Endless(server)
    monkeypatch.setattr(server.engine, "answer", endless)
    stream = client.responses.create(input="Three", previous_response_id=first.id, stream=True, **asked)
    next(iter(stream))
    assert {one.id for one in server.run(server.engine.memories("ana"))} > before
    stream.close()
    assert endless.cancelled.wait(10)
    for _ in range(100):  # the branch goes just behind the answer
        if {one.id for one in server.run(server.engine.memories("ana"))} == before:
            break
        time.sleep(0.1)
    assert {one.id for one in server.run(server.engine.memories("ana"))} == before


@pytest.mark.parametrize("kind", KINDS[:2])
def test_an_error_ends_a_stream_of_chunks(
    server: Server, client: OpenAI, memory: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(server.engine, "answer", failing(PromptTooLongError("the prompt is too long")))
    stream = stream_of(kind, server, client, memory)
    with pytest.raises(openai.APIError, match="the prompt is too long") as caught:
        list(stream)
    assert caught.value.code == "context_length_exceeded"
    assert server.sources(memory) == {}


def test_an_error_is_the_last_event_of_a_response(
    server: Server, client: OpenAI, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.engine, "answer", failing(RuntimeError("Ana's secret")))
    events = list(stream_of("response", server, client, memory))
    assert events[-1].type == "error"
    assert "secret" not in events[-1].message
    assert events[-1].sequence_number == len(events) - 1
    assert server.sources(memory) == {}


def test_an_error_before_the_first_piece_has_a_status(server: Server, client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(request: AnswerRequest) -> Answering:
        raise PromptTooLongError("the prompt is too long")

    monkeypatch.setattr(server.engine, "answer", refuse)
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=server.engine.model.name, stream=True, **CHAT)


def test_an_answer_that_the_server_breaks_off_is_told(server: Server, client: OpenAI, endless: Endless, memory: str) -> None:
    def break_off() -> None:
        assert endless.begun.wait(10)
        endless.cancel()

    threading.Thread(target=break_off).start()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(
            model=server.engine.model.name, extra_body={"memory": {"id": memory, "write": "both"}}, **CHAT
        )
    assert caught.value.status_code == 503
    assert server.sources(memory) == {}
