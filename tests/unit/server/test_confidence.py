"""Laws of confidences over HTTP: told where asked, refused below a minimum also in a stream, and one sentence where it cannot be."""

from __future__ import annotations

import functools
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.settings import ServerSettings
from mplus.settings.calibration import REFUSAL, Calibration
from tests import tiny

pytestmark = pytest.mark.anyio
QUESTION = "Where does Ana live?"


@functools.cache
def calibrated() -> MPlusModel:
    model = tiny.text_model(read_order="score")
    model.checkpoint.calibration = Calibration(bias=-0.5, weights={"match": 1.0})
    return model


@pytest.fixture
def app(request: pytest.FixtureRequest, settings: ServerSettings, text_model: MPlusModel) -> FastAPI:
    """Of a model with a calibration, unless the test asks for one without."""
    return create_app(settings, model=text_model if request.node.name.startswith("test_a_model_without") else calibrated())


async def ask(client: httpx.AsyncClient, **memory: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 6, "memory": {"id": "ana", **memory}}
    return await client.post("/v1/chat/completions", json=body)


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


@pytest.fixture
async def written(client: httpx.AsyncClient) -> httpx.AsyncClient:
    await client.post("/v1/memories", json={"id": "ana"})
    await client.post(
        "/v1/memories/ana/sources?wait=true", json={"text": "Ana lives in Porto, where she keeps bees.", "source": "facts"}
    )
    return client


async def test_confidence_is_told_where_it_is_asked_for(written: httpx.AsyncClient) -> None:
    plain, told = await ask(written), await ask(written, confidence=True)
    assert "memory" not in plain.json() and said(plain) == said(told)
    memory = told.json()["memory"]
    assert set(memory) == {"id", "confidence", "refused"} and 0 < memory["confidence"] < 1 and memory["refused"] is False
    traced = (await ask(written, confidence=True, trace=True)).json()["memory"]
    assert traced["confidence"] == memory["confidence"] and traced["passages"]


async def test_an_answer_below_the_minimum_is_refused_and_not_written(written: httpx.AsyncClient) -> None:
    assert said(await ask(written, min_confidence=0)) == said(await ask(written))
    refused = await ask(written, min_confidence=1.0, write="both")
    assert said(refused) == REFUSAL and refused.json()["memory"]["refused"] is True
    names = [one["name"] for one in (await written.get("/v1/memories/ana/sources")).json()["data"]]
    texts = [(await written.get("/v1/memories/ana/text", params={"source": name})).text for name in names]
    assert any(QUESTION in text for text in texts) and not any(REFUSAL in text for text in texts)


async def test_a_stream_with_a_minimum_gives_the_answer_when_it_is_judged(written: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 6, "stream": True}
    pieces: dict[float, str] = {}
    for least in (0.001, 1.0):
        response = await written.post("/v1/chat/completions", json={**body, "memory": {"id": "ana", "min_confidence": least}})
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
        chunks = [json.loads(line) for line in lines]
        pieces[least] = "".join(one["choices"][0]["delta"].get("content", "") for one in chunks if one["choices"])
        assert chunks[-1]["memory"]["refused"] is (least == 1.0)
    assert pieces == {0.001: said(await ask(written)), 1.0: REFUSAL}


async def test_a_question_of_the_own_side_is_judged(written: httpx.AsyncClient) -> None:
    asked = {"question": QUESTION, "answer": True, "max_tokens": 6}
    told = (await written.post("/v1/memories/ana/trace", json={**asked, "confidence": True})).json()
    assert 0 < told["confidence"] < 1 and told["refused"] is False
    refused = (await written.post("/v1/memories/ana/trace", json={**asked, "min_confidence": 1})).json()
    assert (refused["answer"], refused["refused"]) == (REFUSAL, True)
    assert (await written.post("/v1/memories/ana/trace", json={"question": QUESTION, "confidence": True})).status_code == 400


@pytest.mark.parametrize("least", [1.5, -1, "half", True])
async def test_a_minimum_that_is_none_is_refused(written: httpx.AsyncClient, least: Any) -> None:
    response = await ask(written, min_confidence=least)
    assert response.status_code == 400 and "min_confidence" in response.text


async def test_without_a_memory_there_is_no_confidence(written: httpx.AsyncClient) -> None:
    body = {"messages": [{"role": "user", "content": QUESTION}], "memory": {"confidence": True}}
    response = await written.post("/v1/chat/completions", json=body)
    assert response.status_code == 400 and "none is named; give memory.id" in response.text


async def test_a_model_without_calibration_says_how_to_fit_one(written: httpx.AsyncClient) -> None:
    for wish in ({"confidence": True}, {"min_confidence": 0.5}):
        response = await ask(written, **wish)
        assert response.status_code == 400 and "mplus calibrate MODEL --out DIR" in response.text
