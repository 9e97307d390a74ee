"""A memory on a running server, over its own endpoints, for the tools. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2

from mplus.errors import InputError, MPlusError
from mplus.server.mcp.backend import MOST_PASSAGES, Kept, Match, Reply, UnknownIdError

TIMEOUT: Final = httpx2.Timeout(10.0, read=600.0)
"""Seconds; a long text is read for minutes."""
NOT_FOUND: Final = 404
CONFLICT: Final = 409


class ServerRefusal(MPlusError):
    """What a server answered instead of what was asked for.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerMemory:
    """One memory of a server; see ``Backend``.

    Args:
        url: where the server is, such as ``http://127.0.0.1:8000``.
        key: of its tenant; None: the server needs none.
    """

    def __init__(self, url: str, memory: str, *, key: str | None = None) -> None:
        self._url, self._memory = url.rstrip("/"), memory
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        try:
            self._client = httpx2.AsyncClient(base_url=self._url, headers=headers, timeout=TIMEOUT)
        except (httpx2.InvalidURL, ValueError):
            raise InputError(f"--url {url!r} is no address of a server; expected one like http://127.0.0.1:8000") from None

    async def open(self) -> None:
        """Make the memory where there is none."""
        try:
            await self._call("POST", "", {"id": self._memory}, memory=None)
        except ServerRefusal as refusal:
            if refusal.status != CONFLICT:
                raise

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def add(self, id: str, text: str, note: Mapping[str, Any]) -> int:
        """Write a text under a new name; returns its tokens."""
        body = {"text": text, "source": id, "note": dict(note)}
        return int((await self._call("POST", "/sources?wait=true", body))["tokens"])

    async def search(self, query: str, limit: int) -> list[Match]:
        """Passages that match, best first."""
        found = (await self._call("POST", "/search", {"query": query, "top_k": limit}))["data"]
        return [Match(id=one["source"], text=one["text"], score=one["score"]) for one in found]

    async def get(self, id: str) -> Kept:
        """A text by its name."""
        source = await self._of_source("GET", id)
        text = (await self._send("GET", f"/text?source={quote(id, safe='')}")).text
        return Kept(id=id, text=text, tokens=source["tokens"], at=source["first_at"])

    async def delete(self, id: str) -> None:
        """Forget a text."""
        await self._of_source("DELETE", id)

    async def delete_all(self) -> int:
        """Forget every text; returns how many there were."""
        if not (await self._call("GET", ""))["sources"]:
            return 0
        return len((await self._call("POST", "/forget", {"pattern": "*"}))["sources"])

    async def ask(self, question: str) -> Reply:
        """Answer a question; the memory does not change."""
        found = await self._call("POST", "/trace", {"question": question, "answer": True})
        read = found["trace"]["passages"][:MOST_PASSAGES]
        passages = [Match(id=one["source"], text=one["text"], score=one["score"]) for one in read]
        return Reply(text=found["answer"], passages=passages)

    async def _of_source(self, method: str, id: str) -> Any:
        try:
            return await self._call(method, f"/sources/{quote(id, safe='')}")
        except ServerRefusal as refusal:
            if refusal.status == NOT_FOUND:
                raise UnknownIdError(id) from None
            raise

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, memory: str | None = "") -> Any:
        return (await self._send(method, path, body, memory=memory)).json()

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, memory: str | None = ""
    ) -> httpx2.Response:
        place = "" if memory is None else f"/{quote(self._memory, safe='')}"
        try:
            response = await self._client.request(method, f"/v1/memories{place}{path}", json=body)
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise MPlusError(
                f"the server at {self._url} does not answer ({reason}); is it running? `mplus serve` starts one"
            ) from None
        if response.is_error:
            raise ServerRefusal(_said(response), response.status_code)
        return response


def _said(response: httpx2.Response) -> str:
    """The server's own sentence."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code} {response.reason_phrase}, which is no answer of `mplus serve`"
