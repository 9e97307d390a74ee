"""Clients that use a server as programs do, all at once, and tell a ledger what they were told. Knows no process."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from benchmarks.serving_ledger import Ledger, Scope, Text, Watch

TIMEOUT_S = 600.0
MIX = {
    "write": 20, "mem0 add": 8, "chat": 14, "stream": 14, "leave": 5, "search": 6, "mem0 search": 5, "read": 8, "list": 2,
    "forget": 6, "mem0 delete": 2, "replace": 4, "mem0 update": 1, "fork": 2, "turn": 3,
}  # fmt: skip
"""Operation to its share in a hundred."""
LONGEST_WAIT_S = 2.0
NO_ANSWER = ", no answer"


class NoAnswerError(Exception):
    """The connection broke before the answer was whole."""


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    status: int
    text: str

    @property
    def done(self) -> bool:
        """Whether the server did what was asked."""
        return self.status < 300

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.text)


@dataclass(kw_only=True)
class Clients:
    """Clients of all tenants.

    Attributes:
        statuses, operations: how many of each there were.
    """

    address: str
    keys: Mapping[str, str]
    ledger: Ledger
    seed: int
    new_tokens: int = 8
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    conversations: dict[Scope, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._forks = 0
        self._http: dict[str, httpx.AsyncClient] = {}

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connections for a block."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        for tenant, key in self.keys.items():
            headers = {"Authorization": f"Bearer {key}"}
            self._http[tenant] = httpx.AsyncClient(base_url=self.address, headers=headers, timeout=TIMEOUT_S, limits=limits)
        try:
            yield
        finally:
            await asyncio.gather(*(one.aclose() for one in self._http.values()))

    def http(self, scope: Scope) -> httpx.AsyncClient:
        """The connections of a memory's tenant."""
        return self._http[scope[0]]

    # -- requests ----------------------------------------------------------------------------------------------------

    async def send(self, scope: Scope, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """Send a request and search its whole reply.

        Raises:
            NoAnswerError.
        """
        with self.ledger.watching(scope) as watch:
            return await self._send(watch, method, path, body, **options)

    async def _send(self, watch: Watch, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        try:
            response = await self._http[watch.scope[0]].request(method, path, json=body, **options)
        except httpx.HTTPError as error:
            raise NoAnswerError(str(error)) from error
        self.ledger.check_reply(watch, response.text, f"{method} {path}")
        await self._count(response, f"{method} {path}")
        return Reply(response.status_code, response.text)

    async def stream(self, scope: Scope, body: dict[str, Any], *, leave_after: int | None = None) -> Reply:
        """Read a streamed answer, or leave after so many of its pieces; what came is searched as it came and put together."""
        raw, said = "", ""
        with self.ledger.watching(scope) as watch:
            try:
                async with self._http[scope[0]].stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
                    lines = 0
                    async for line in response.aiter_lines():
                        raw, said, lines = raw + line + "\n", said + content_of(line), lines + 1
                        if leave_after is not None and lines > leave_after:
                            break
            except httpx.HTTPError as error:
                raise NoAnswerError(str(error)) from error
            finally:
                self.ledger.check_reply(watch, raw, "a stream")
                self.ledger.check_reply(watch, said, "a stream's text")
        await self._count(response, "a stream")
        if leave_after is not None or (response.status_code == 200 and not raw.rstrip().endswith("[DONE]")):
            raise NoAnswerError("left or broken")
        if '"error"' in raw and response.status_code == 200:
            self.ledger.faults.append(f"a stream for {scope} ended with an error: {raw[-300:]!r}")
        return Reply(response.status_code, raw)

    async def _count(self, response: httpx.Response, request: str) -> None:
        self.statuses[response.status_code] += 1
        if response.status_code >= 500:
            self.ledger.faults.append(
                f"{request} gave {response.status_code}: {response.text[:300] if response.is_closed else ''}"
            )
        if response.status_code == 429:
            wait = response.headers.get("Retry-After")
            if wait is None:
                self.ledger.faults.append(f"{request} gave 429 without Retry-After")
            await asyncio.sleep(min(float(wait or 1), LONGEST_WAIT_S))

    # -- operations --------------------------------------------------------------------------------------------------

    async def one(self, name: str, scope: Scope) -> None:
        """Do one operation of the mix; one that has nothing to work on writes instead."""
        self.operations[name] += 1
        act: Callable[[Scope], Awaitable[None]] = getattr(self, "_" + name.replace(" ", "_"))
        try:
            await act(scope)
        except NoAnswerError:
            self.operations[name + NO_ANSWER] += 1

    async def write(self, scope: Scope) -> None:
        """Write a text as a source of its own."""
        value = self.ledger.new_value(scope)
        source = f"note/{value.partition(':')[0].removeprefix('Note ')}"
        path = f"{_memory(scope)}/sources"
        await self._change(scope, None, value, "POST", path, {"text": value, "source": source}, source=source)

    _write = write

    async def _mem0_add(self, scope: Scope) -> None:
        value = self.ledger.new_value(scope)
        body = {"messages": [{"role": "user", "content": value}], "user_id": scope[1]}
        await self._change(scope, None, value, "POST", "/memories", body)

    async def _turn(self, scope: Scope) -> None:
        if scope not in self.conversations:
            reply = await self.send(scope, "POST", "/v1/conversations", {"memory": {"id": scope[1]}})
            if not reply.done:
                return
            self.conversations[scope] = reply.json()["id"]
        value = self.ledger.new_value(scope)
        body = {**self._asked(scope, value), "conversation": self.conversations[scope]}
        body["memory"] = {"write": "user", "trace": True}
        await self._change(scope, None, value, "POST", "/v1/chat/completions", body)

    async def _chat(self, scope: Scope) -> None:
        await self.send(scope, "POST", "/v1/chat/completions", self._asked(scope))

    async def _stream(self, scope: Scope) -> None:
        await self.stream(scope, self._asked(scope))

    async def _leave(self, scope: Scope) -> None:
        await self.stream(scope, self._asked(scope), leave_after=self.random.randint(0, 2 * self.new_tokens))

    async def _search(self, scope: Scope) -> None:
        await self.send(scope, "POST", f"{_memory(scope)}/search", {"query": "Which code has the locker?", "top_k": 5})

    async def _mem0_search(self, scope: Scope) -> None:
        await self.send(scope, "POST", "/search", {"query": "Which code has the locker?", "user_id": scope[1]})

    async def _list(self, scope: Scope) -> None:
        await self.send(scope, "GET", "/memories", params={"user_id": scope[1]})

    async def _read(self, scope: Scope) -> None:
        number = self._some(scope)
        if number is None:
            return await self.write(scope)
        with self.ledger.watching(scope) as watch:
            reply = await self._send(watch, "GET", f"{_memory(scope)}/text", params={"source": self._text(scope, number).source})
        given = reply.text if reply.done else None
        if reply.status in (200, 404) and given not in watch.values[number]:
            self.ledger.faults.append(f"text {number} of {scope} was read as {str(given)[:80]!r}, not what was written")

    async def _forget(self, scope: Scope) -> None:
        number = self._some(scope)
        if number is None:
            return await self.write(scope)
        source = str(self._text(scope, number).source)
        if self.random.random() < 0.5:
            await self._change(scope, number, None, "POST", f"{_memory(scope)}/forget", {"sources": [source]})
        else:
            await self._change(scope, number, None, "DELETE", f"{_memory(scope)}/sources/{quote(source)}")

    async def _mem0_delete(self, scope: Scope) -> None:
        number = self._some(scope, mem0=True)
        if number is None:
            return await self._mem0_add(scope)
        await self._change(scope, number, None, "DELETE", f"/memories/{self._text(scope, number).mem0}")

    async def _replace(self, scope: Scope) -> None:
        number = self._some(scope)
        if number is None:
            return await self.write(scope)
        value = self.ledger.new_value(scope)
        path = f"{_memory(scope)}/sources/{quote(str(self._text(scope, number).source))}"
        await self._change(scope, number, value, "PUT", path, {"text": value})

    async def _mem0_update(self, scope: Scope) -> None:
        number = self._some(scope, mem0=True)
        if number is None:
            return await self._mem0_add(scope)
        value = self.ledger.new_value(scope)
        await self._change(scope, number, value, "PUT", f"/memories/{self._text(scope, number).mem0}", {"text": value})

    async def _fork(self, scope: Scope) -> None:
        self._forks += 1
        new = (scope[0], f"{scope[1].partition('-fork')[0]}-fork{self._forks}")
        acknowledged = False
        with self.ledger.watching(scope) as watch:
            try:
                reply = await self._send(watch, "POST", f"{_memory(scope)}/fork", {"id": new[1]})
                acknowledged = reply.done
                if not acknowledged:
                    return
            except NoAnswerError:
                self.ledger.forked(watch, new, acknowledged=False)
                raise
            self.ledger.forked(watch, new, acknowledged=True)

    async def _change(
        self,
        scope: Scope,
        number: int | None,
        value: str | None,
        method: str,
        path: str,
        body: Any = None,
        *,
        source: str | None = None,
    ) -> None:
        number, before = self.ledger.begin(scope, number, value, source=source)
        try:
            reply = await self.send(scope, method, path, body)
        except (NoAnswerError, asyncio.CancelledError):
            self.ledger.lose(scope, number)
            raise
        if reply.done:
            mem0 = reply.json()["results"][0]["id"] if path == "/memories" else None
            self.ledger.acknowledge(scope, number, value, mem0=mem0)
        elif reply.status >= 500:
            self.ledger.lose(scope, number)
        else:
            self.ledger.refuse(scope, number, before)
            if reply.status != 429:
                self.ledger.faults.append(f"{method} {path} of {scope} was refused with {reply.status}: {reply.text[:200]}")

    def _asked(self, scope: Scope, message: str = "Which code has the locker?") -> dict[str, Any]:
        messages = [{"role": "user", "content": message}]
        memory = {"id": scope[1], "trace": self.random.random() < 0.5}
        return {"messages": messages, "max_tokens": self.new_tokens, "memory": memory}

    def _some(self, scope: Scope, *, mem0: bool = False) -> int | None:
        free = self.ledger.free(scope, mem0=mem0)
        return self.random.choice(free) if free else None

    def _text(self, scope: Scope, number: int) -> Text:
        return self.ledger.texts[scope][number]

    # -- what is there -----------------------------------------------------------------------------------------------

    async def held(self, scope: Scope) -> dict[str, str] | None:
        """All sources of a memory with their texts; None where there is no memory."""
        names: list[str] = []
        while True:
            after = {"after": names[-1]} if names else {}
            reply = await self.send(scope, "GET", f"{_memory(scope)}/sources", params={"limit": 1000, **after})
            if not reply.done:
                return None
            page = reply.json()
            names += [one["name"] for one in page["data"]]
            if not page["has_more"]:
                break
        found: dict[str, str] = {}
        for name in names:
            reply = await self.send(scope, "GET", f"{_memory(scope)}/text", params={"source": name})
            if reply.done:
                found[name] = as_sent(name, reply.text)
        return found

    async def check_all(self, *, still: bool) -> None:
        """Compare every memory with the ledger, eight at a time."""
        room = asyncio.Semaphore(8)

        async def check(scope: Scope) -> None:
            async with room:
                try:
                    self.ledger.check_memory(scope, await self.held(scope) or {}, still=still)
                except NoAnswerError as error:
                    self.ledger.faults.append(f"memory {scope} could not be read to be compared: {error!r}")

        await asyncio.gather(*(check(scope) for scope in list(self.ledger.texts)))


def as_sent(source: str, text: str) -> str:
    """A source's text as its client sent it: a turn of a chat is kept with its role before it."""
    return text.removeprefix("User: ").removesuffix("\n\n") if source.startswith("chat/") else text


def content_of(line: str) -> str:
    """The piece of text in one line of a stream."""
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or choices[0].get("text") or ""


def _memory(scope: Scope) -> str:
    return f"/v1/memories/{quote(scope[1], safe='')}"
