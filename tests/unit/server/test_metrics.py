"""What `/metrics` tells: counts by route and not by path, answers with their times, what the engine holds."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from mplus.server.answers import Answering, AnswerResult

pytestmark = pytest.mark.anyio


async def told(client: httpx.AsyncClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name and labels to value."""
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def requests(route: str, method: str, status: int) -> tuple[str, tuple[tuple[str, str], ...]]:
    return "mplus_requests_total", (("method", method), ("route", route), ("status", str(status)))


async def test_requests_are_counted_by_route_and_status(client: httpx.AsyncClient) -> None:
    for name in ("ana", "ben"):
        await client.get(f"/v1/memories/{name}")
    for path in ("/nowhere/1", "/nowhere/2"):
        await client.request("BREW", path)
    values = await told(client)
    assert values[requests("/v1/memories/{memory}", "GET", 404)] == 2
    assert values[requests("none", "other", 404)] == 2
    assert not any("ana" in str(labels) or "nowhere" in str(labels) for _, labels in values)


async def test_an_answer_is_counted_with_its_tokens_and_its_first_text(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.post("/v1/answer")
    async def answer() -> str:
        answering = Answering(asyncio.get_running_loop())
        answering.put("one ")
        answering.put("two")
        answering.end(AnswerResult(text="one two", finish="stop", prompt_tokens=7, completion_tokens=2, memory_tokens=30))
        return (await answering.result()).text

    @app.post("/v1/failure")
    async def failure() -> str:
        answering = Answering(asyncio.get_running_loop())
        answering.fail(ValueError("no"))
        return (await answering.result()).text

    assert (await client.post("/v1/answer")).json() == "one two"
    assert (await client.post("/v1/failure")).status_code == 500
    values = await told(client)
    assert values["mplus_answers_total", (("finish", "stop"),)] == 1
    assert values["mplus_answers_total", (("finish", "error"),)] == 1
    assert [values[f"mplus_{name}_total", ()] for name in ("prompt_tokens", "answer_tokens", "memory_tokens_read")] == [7, 2, 30]
    assert values["mplus_first_token_seconds_count", ()] == 1
    assert values["mplus_answer_tokens_per_second_count", ()] == 1


async def test_what_the_engine_holds_is_asked_at_that_moment(client: httpx.AsyncClient) -> None:
    assert (await told(client))["mplus_open_memories", ()] == 0
    assert (await client.post("/v1/memories/ana/sources", json={"text": "Ana lives in Oslo."})).status_code == 201
    values = await told(client)
    assert values["mplus_open_memories", ()] == 1
    assert values["mplus_ready", ()] == 1
    assert {"mplus_waiting", "mplus_batch", "mplus_open_bytes", "mplus_stored_bytes"} <= {name for name, _ in values}


async def test_steps_passes_and_searches_of_the_worker_are_counted(app: FastAPI, client: httpx.AsyncClient) -> None:
    before = await told(client)
    counted = ("mplus_decode_rows_count", "mplus_write_pass_seconds_count", "mplus_searches_total")
    assert [before[name, ()] for name in counted] == [0, 0, 0]
    written = await client.post("/v1/memories/ana/sources", json={"text": "Ana lives in Oslo."})
    assert (await client.post("/v1/memories/ana/search", json={"query": "Where?"})).status_code == 200
    body = {"model": app.state.engine.model.name, "prompt": "Where?", "max_tokens": 4, "memory": {"id": "ana"}}
    answered = (await client.post("/v1/completions", json=body)).json()["usage"]["completion_tokens"]
    values = await told(client)
    assert values["mplus_written_tokens_total", ()] == written.json()["tokens"] > 0
    assert values["mplus_write_pass_seconds_count", ()] >= 1
    assert values["mplus_searches_total", ()] == 1
    assert values["mplus_decode_rows_sum", ()] == values["mplus_decode_step_seconds_count", ()] == answered - 1 > 0
    assert values["mplus_passing", ()] == 0


async def test_two_applications_count_apart(app: FastAPI, client: httpx.AsyncClient) -> None:
    from mplus.server.metrics import Metrics

    other = Metrics(lambda: None)
    await client.get("/v1/memories")
    assert not any(one.samples for one in other.requests.collect())
