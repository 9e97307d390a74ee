"""The log of a server: a JSON object a line, and nothing that a user said or named."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from mplus.errors import SnapshotError
from mplus.server.logs import logging_to
from mplus.server.requests import level_of
from mplus.server.scope import digest_of

SECRET = "the orchid in the blue pot"
ID = "memory-of-ana"


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.anyio
async def test_a_request_is_a_line_without_what_was_said_or_named(client: httpx.AsyncClient) -> None:
    stream = io.StringIO()
    with logging_to(stream):
        told = await client.post(f"/v1/memories/{ID}/sources", json={"source": "secret-name", "text": SECRET * 3})
        await client.get(f"/v1/memories/{ID}/text", params={"source": "secret-name"})
        await client.get("/v1/memories/another-memory")
        await client.post("/v1/memories", json={"id": 5, "metadata": SECRET})
        await client.get(f"/{SECRET}")
        await client.get("/health")
    written = lines(stream)
    for word in (SECRET, "orchid", ID, "secret-name", "another-memory"):
        assert word not in stream.getvalue()
    assert [one["status"] for one in written] == [201, 200, 404, 400, 404]
    first = written[0]
    assert first["route"] == "/v1/memories/{memory}/sources"
    assert (first["request"], first["tenant"], first["method"]) == (told.headers["x-request-id"], "local", "POST")
    assert first["id_hash"] == digest_of("local", ID)[:12]
    assert first["ms"] > 0
    assert written[-1]["route"] == "none"


@pytest.mark.anyio
async def test_a_fault_is_told_by_its_class_and_place(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/v1/fault")
    async def fault() -> None:
        raise RuntimeError(SECRET)

    @app.get("/v1/damaged")
    async def damaged() -> None:
        raise SnapshotError("memory in /srv/0123 is damaged")

    stream = io.StringIO()
    with logging_to(stream):
        answers = [await client.get(path) for path in ("/v1/fault", "/v1/damaged")]
    assert [one.status_code for one in answers] == [500, 503]
    assert "/srv" not in answers[1].text
    unhandled, stored = lines(stream)
    assert SECRET not in stream.getvalue()
    assert (unhandled["level"], unhandled["error"]) == ("error", "RuntimeError")
    assert any("test_logs.py" in frame for frame in unhandled["frames"])
    assert (stored["error"], stored["reason"]) == ("SnapshotError", "memory in /srv/0123 is damaged")


@pytest.mark.parametrize(
    ("route", "status", "level"),
    [
        ("/ready", 200, logging.DEBUG),
        ("/ready", 503, logging.INFO),
        ("/ready", 500, logging.ERROR),
        ("/health", 405, logging.INFO),
        ("/v1/memories", 200, logging.INFO),
        ("/v1/memories", 503, logging.ERROR),
    ],
)
def test_a_probe_before_the_model_is_there_is_no_error(route: str, status: int, level: int) -> None:
    assert level_of(route, status) == level


def test_what_other_modules_log_is_their_template_but_for_numbers() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        log = logging.getLogger("mplus.memory.anything")
        log.warning("could not read %s", SECRET)
        log.warning("took %d of %.1f", 3, 0.5)
        log.info("not at all")
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.getLogger("uvicorn.error").exception("it failed")
    assert SECRET not in stream.getvalue()
    assert [one["message"] for one in lines(stream)] == ["could not read %s", "took 3 of 0.5", "it failed"]
    assert lines(stream)[2]["error"] == "ValueError"


def test_logging_is_as_it_was_afterwards() -> None:
    names = ("mplus", "mplus.server", "uvicorn")
    before = [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names]
    with logging_to(io.StringIO()):
        pass
    assert [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names] == before
