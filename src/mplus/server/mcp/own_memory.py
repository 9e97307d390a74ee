"""A memory in this process, through the engine, for the tools. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mplus.errors import StoreError
from mplus.server.answers import AnswerRequest
from mplus.server.engine import Engine, SourceRecord, SourceText
from mplus.server.errors import UnknownSourceError
from mplus.server.mcp.backend import MOST_PASSAGES, Kept, Match, Reply, UnknownIdError
from mplus.server.scope import Scope

ADDRESS: Final = "http://127.0.0.1:8000"


class OwnMemory:
    """One memory of an engine; see ``Backend``."""

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine, self._scope = engine, scope

    async def open(self) -> None:
        """Start the engine, and make the memory where there is none.

        Raises:
            StoreError: a server has the home open.
        """
        try:
            await self._engine.start()
        except StoreError as error:
            raise StoreError(f"{error}; or use the memory through it: --url with its address, such as {ADDRESS}") from None
        await self._engine.create(self._scope, exist_ok=True)

    async def close(self) -> None:
        """Stop the engine, which saves the memory."""
        await self._engine.stop()

    async def add(self, id: str, text: str, note: Mapping[str, Any]) -> int:
        """Write a text under a new name; returns its tokens."""
        (result,) = await self._engine.write_all(self._scope, [SourceText(source=id, text=text, note=note)])
        return result.tokens

    async def search(self, query: str, limit: int) -> list[Match]:
        """Passages that match, best first."""
        hits = await self._engine.search(self._scope, query, top_k=limit)
        return [Match(id=hit.source, text=hit.text, score=hit.score) for hit in hits]

    async def get(self, id: str) -> Kept:
        """A text by its name."""
        source = await self._source(id)
        text = await self._engine.text(self._scope, id)
        return Kept(id=id, text=text, tokens=source.tokens, at=source.first_at)

    async def delete(self, id: str) -> None:
        """Forget a text."""
        await self._source(id)
        await self._engine.forget(self._scope, [id])

    async def delete_all(self) -> int:
        """Forget every text; returns how many there were."""
        names = [one.name for one in await self._engine.sources(self._scope)]
        if names:
            await self._engine.forget(self._scope, names)
        return len(names)

    async def ask(self, question: str) -> Reply:
        """Answer a question; the memory does not change."""
        messages = [{"role": "user", "content": question}]
        request = AnswerRequest(tenant=self._scope.tenant, scope=self._scope, messages=messages, trace=True)
        answering = await self._engine.answer(request)
        result = await answering.result()
        read = [] if result.trace is None else result.trace.passages[:MOST_PASSAGES]
        return Reply(text=result.text, passages=[Match(id=one.source, text=one.text, score=one.score) for one in read])

    async def _source(self, id: str) -> SourceRecord:
        try:
            return await self._engine.source(self._scope, id)
        except UnknownSourceError:
            raise UnknownIdError(id) from None
