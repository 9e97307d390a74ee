"""A model whose memory tokens stand for several text tokens, over HTTP: written, traced, opened again and forgotten as any other."""

from __future__ import annotations

import functools
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from mplus import MPlusModel
from mplus.server.app import create_app
from mplus.server.settings import ServerSettings
from tests import tiny

pytestmark = pytest.mark.anyio
TEXTS = {"ana": "Ana lives in Porto, where she keeps bees and sails a small boat.", "bert": "Bert sails past the lighthouse."}


@functools.cache
def pooled() -> MPlusModel:
    return tiny.text_model(read_order="score", tokens_per_row=2, new_tokens=16)


@pytest.fixture
def app(settings: ServerSettings) -> FastAPI:
    return create_app(settings, model=pooled())


async def traced(client: httpx.AsyncClient) -> tuple[str, list[dict[str, Any]]]:
    body = {
        "messages": [{"role": "user", "content": "Where does Ana live?"}],
        "max_tokens": 5,
        "memory": {"id": "m", "trace": True},
    }
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["memory"]["passages"]
    return response.json()["choices"][0]["message"]["content"], found


async def test_sources_are_traced_by_their_text_and_gone_when_deleted(client: httpx.AsyncClient) -> None:
    await client.post("/v1/memories", json={"id": "m"})
    for source, text in TEXTS.items():
        await client.post("/v1/memories/m/sources?wait=true", json={"text": text, "source": source})
    first, passages = await traced(client)
    assert {one["source"] for one in passages} == set(TEXTS)
    whole = {source: f"\n\n{text}" for source, text in TEXTS.items()}
    assert all(one["text"] == whole[one["source"]][one["start"] : one["stop"]] for one in passages)
    assert sum(one["tokens"] for one in passages) < sum(map(len, whole.values()))
    assert (await traced(client))[0] == first
    response = await client.delete("/v1/memories/m/sources/bert")
    assert response.status_code in (200, 202, 204), response.text
    assert {one["source"] for one in (await traced(client))[1]} == {"ana"}
