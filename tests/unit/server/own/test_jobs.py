"""`/v1/jobs`: long writes go on without their client, tell how far they are, and leave nothing where they are cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.memories.index import IndexEntry
from mplus.server.own import writing
from mplus.server.settings import ServerSettings

from ..conftest import serving
from ..tenants import LOCAL, two_tenants

pytestmark = pytest.mark.anyio
SOURCES = "/v1/memories/alice/sources"
LONG = "Alice lives in Oslo, near the old harbour, since May. " * 8


async def started(client: httpx.AsyncClient, text: str = LONG, source: str = "one") -> dict[str, Any]:
    answer = await client.post(SOURCES, params={"wait": "false"}, json={"source": source, "text": text})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return dict(answer.json())


async def ended(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    for _ in range(2000):
        told = (await client.get(f"/v1/jobs/{id}")).json()
        assert told.get("object") == "job", told
        if told["ended_at"] is not None:
            return dict(told)
        await asyncio.sleep(0.01)
    raise AssertionError("the job does not end")


async def test_a_job_writes_the_text(client: httpx.AsyncClient) -> None:
    job = await started(client)
    told = await ended(client, job["id"])
    while told["tokens_total"] is None:  # they are counted beside the write
        await asyncio.sleep(0.005)
        told = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert told["tokens_total"] >= len(LONG.encode())
    assert told["status"] == "succeeded", told
    assert told["result"]["tokens"] == told["tokens_done"]
    assert (await client.get("/v1/memories/alice/text", params={"source": "one"})).text.strip() == LONG.strip()
    assert [one["id"] for one in (await client.get("/v1/jobs")).json()["data"]] == [job["id"]]


async def test_a_long_text_is_a_job_unless_its_client_waits(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "JOB_FROM_CHARACTERS", 100)
    assert (await client.post(SOURCES, json={"source": "long", "text": LONG})).status_code == 202
    assert (await client.post(SOURCES, json={"source": "short", "text": "Alice likes tea."})).status_code == 201
    assert (await client.post(SOURCES, params={"wait": "true"}, json={"source": "x", "text": LONG})).status_code == 201


async def test_events_end_with_the_job(client: httpx.AsyncClient) -> None:
    job = await started(client)
    events: list[tuple[str, dict[str, Any]]] = []
    name = ""
    async with client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    assert events[-1][0] == "done"
    assert events[-1][1]["status"] == "succeeded"
    done = [told["tokens_done"] for _, told in events]
    assert done == sorted(done)


async def test_a_cancelled_job_leaves_nothing(client: httpx.AsyncClient) -> None:
    await client.post(SOURCES, json={"source": "kept", "text": "Alice likes tea."})
    job = await started(client, LONG * 40)
    cancelled = await client.delete(f"/v1/jobs/{job['id']}")
    assert cancelled.status_code == 200
    told = await ended(client, job["id"])
    assert (told["status"], told["result"]) == ("cancelled", None)
    assert [one["name"] for one in (await client.get(SOURCES)).json()["data"]] == ["kept"]


async def test_a_job_begins_before_its_tokens_are_counted(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = threading.Event()
    monkeypatch.setattr(writing, "count_tokens", lambda engine, text: counts.wait(60) and 7)
    job = await started(client)
    told = await ended(client, job["id"])
    assert (told["status"], told["tokens_total"]) == ("succeeded", None)
    counts.set()


async def test_a_replacement_is_a_job_that_tells_its_progress_and_can_be_cancelled(client: httpx.AsyncClient) -> None:
    assert (await client.post(SOURCES, json={"source": "one", "text": "Alice likes tea."})).status_code == 201
    many = {"text": LONG * 50}
    job = (await client.put(f"{SOURCES}/one", params={"wait": "false"}, json=many)).json()
    while not (told := (await client.get(f"/v1/jobs/{job['id']}")).json())["tokens_done"]:
        assert told["ended_at"] is None
        await asyncio.sleep(0.005)
    assert (await client.delete(f"/v1/jobs/{job['id']}")).status_code == 200
    assert (await ended(client, job["id"]))["status"] == "cancelled"
    assert (await client.get("/v1/memories/alice/text", params={"source": "one"})).text.strip() == "Alice likes tea."


async def test_a_job_that_fails_says_why(client: httpx.AsyncClient) -> None:
    await client.post(SOURCES, json={"source": "one", "text": "Alice likes tea."})
    answer = await client.put(f"{SOURCES}/one", params={"wait": "false"}, json={"text": LONG})
    assert answer.status_code == 202
    told = await ended(client, answer.json()["id"])
    assert (told["kind"], told["status"]) == ("replace", "succeeded")
    assert (await client.put(f"{SOURCES}/two", params={"wait": "false"}, json={"text": LONG})).status_code == 404


async def test_a_job_is_its_tenants(text_model: MPlusModel, tmp_path: Path) -> None:
    async with two_tenants(text_model, tmp_path) as (anna, ben):
        job = await started(anna)
        for method, path in (("GET", "/v1/jobs/{}"), ("DELETE", "/v1/jobs/{}"), ("GET", "/v1/jobs/{}/events")):
            his = await ben.request(method, path.format(job["id"]))
            none = await ben.request(method, path.format("job_0"))
            assert (his.status_code, his.text) == (404, none.text)
        assert (await ben.get("/v1/jobs")).json()["data"] == []
        assert (await ended(anna, job["id"]))["status"] == "succeeded"


async def test_after_a_restart_what_had_ended_is_told_and_what_had_not_is_interrupted(
    text_model: MPlusModel, settings: ServerSettings
) -> None:
    app = create_app(settings, model=text_model)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client:
        job = await started(client)
        before = await ended(client, job["id"])
        killed = IndexEntry(
            tenant="local",
            kind="job",
            id="job_killed",
            memory="alice",
            source="two",
            data={"kind": "write", "status": "running", "tokens_done": 5},
        )
        app.state.engine.index.put(killed)
    app = create_app(settings, model=text_model)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client:
        assert (await ended(client, job["id"]))["result"] == before["result"]
        told = (await client.get("/v1/jobs/job_killed")).json()
        assert (told["status"], told["error"]["code"]) == ("interrupted", "interrupted")
        assert "two" not in [one["name"] for one in (await client.get(SOURCES)).json()["data"]]


def test_a_server_that_stops_waits_for_nobody_who_watches_a_job(text_model: MPlusModel, tmp_path: Path) -> None:
    app = create_app(ServerSettings(home=tmp_path), model=text_model)
    with httpx.Client(timeout=60) as client, contextlib.ExitStack() as held:
        with serving(app, drain_timeout_s=600) as address:  # which fails where the server has not stopped in 20 seconds
            body = {"text": LONG * 300}
            job = client.post(address + SOURCES, params={"wait": "false"}, json=body).json()["id"]
            lines = held.enter_context(client.stream("GET", f"{address}/v1/jobs/{job}/events")).iter_lines()
            assert next(lines) == "event: progress"
        assert "event: done" not in list(lines)


async def test_the_same_key_writes_once(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "7f3a"}
    answers = [await client.post(SOURCES, json={"text": "Alice likes tea."}, headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert len((await client.get(SOURCES)).json()["data"]) == 1
    other = await client.post(SOURCES, json={"text": "Alice likes coffee."}, headers=headers)
    assert other.status_code == 409
