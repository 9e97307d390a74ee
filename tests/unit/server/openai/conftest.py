"""A server of a tiny model at a real socket, with two tenants, for OpenAI's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from mplus import MPlusModel
from mplus.server.answers import Answering, AnswerRequest
from mplus.server.app import create_app
from mplus.server.engine import Engine
from mplus.server.keys import add_key
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings
from tests.tiny import text_model as new_text_model
from tests.unit.server.conftest import serving

LIMITS: dict[str, Any] = {"max_tokens": 8}
"""Short answers, for speed."""


def said(item: Any) -> str:
    """The text of an item of a conversation."""
    text: str = item.content[0].text
    return text


class LoopedEngine(Engine):
    """Knows the loop it runs in, so that a test can ask it from its own thread."""

    loop: asyncio.AbstractEventLoop

    async def start(self) -> None:
        """Begin to work."""
        self.loop = asyncio.get_running_loop()
        await super().start()


@dataclass
class Server:
    """A running server and its clients.

    Attributes:
        asked: what the engine was asked, since the test began.
    """

    address: str
    engine: LoopedEngine
    keys: dict[str, str]
    asked: list[AnswerRequest] = field(default_factory=list)

    def client(self, tenant: str = "ana", **options: Any) -> OpenAI:
        """The official client."""
        return OpenAI(base_url=f"{self.address}/v1", api_key=self.keys[tenant], max_retries=0, timeout=60, **options)

    def async_client(self, tenant: str = "ana") -> AsyncOpenAI:
        """The official client, for coroutines."""
        return AsyncOpenAI(base_url=f"{self.address}/v1", api_key=self.keys[tenant], max_retries=0, timeout=60)

    def sources(self, memory: str, tenant: str = "ana") -> dict[str, str]:
        """Names and texts of a memory, straight from the engine."""
        scope = Scope(tenant, memory)

        async def read() -> dict[str, str]:
            return {one.name: await self.engine.text(scope, one.name) for one in await self.engine.sources(scope)}

        texts: dict[str, str] = self.run(read())
        return texts

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something with the engine, in the loop of its server."""
        return asyncio.run_coroutine_threadsafe(work, self.engine.loop).result(60)


@pytest.fixture(scope="session")
def text_model() -> MPlusModel:
    """Room for long chats."""
    return new_text_model(positions=8192)


@pytest.fixture(scope="package")
def running(text_model: MPlusModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this room."""
    home: Path = tmp_path_factory.mktemp("served")
    keys = {tenant: add_key(home / "keys.json", tenant)[1] for tenant in ("ana", "bo")}
    settings = ServerSettings(home=home / "home", api_keys=home / "keys.json", user_is_memory=False)
    engine = LoopedEngine(text_model, settings)
    app = create_app(settings, engine=engine)
    with serving(app) as address:
        yield Server(address, engine, keys)


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server; what its engine is asked is kept."""
    running.asked = []
    answer = running.engine.answer

    async def kept(request: AnswerRequest) -> Answering:
        running.asked.append(request)
        return await answer(request)

    monkeypatch.setattr(running.engine, "answer", kept)
    return running


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    """Ana's client."""
    with server.client() as client:
        yield client
