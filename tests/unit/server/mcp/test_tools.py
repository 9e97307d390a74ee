"""Laws of the MCP tools: what was added is found, read and forgotten by its id, and every mistake is one sentence for the model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp_types import CallToolResult, TextContent

from mplus import MPlusModel
from mplus.errors import MPlusError
from mplus.server.engine import Engine
from mplus.server.mcp.own_memory import OwnMemory
from mplus.server.mcp.tools import MemoryServer
from mplus.server.scope import LOCAL, Scope
from mplus.server.settings import ServerSettings

Steps = Callable[[Client], Awaitable[None]]
TOOLS = ("add_memory", "search_memories", "get_memory", "delete_memory", "delete_all_memories", "ask")


@pytest.fixture
def with_tools(tmp_path: Path, text_model: MPlusModel) -> Callable[[Steps], None]:
    """Run steps with the SDK's client on a memory of this process."""

    def run(steps: Steps) -> None:
        async def all() -> None:
            memory = OwnMemory(Engine(text_model, ServerSettings(home=tmp_path)), Scope(LOCAL, "notes"))
            await memory.open()
            async with Client(MemoryServer(memory)) as client:
                await steps(client)

        anyio.run(all)

    return run


def value(result: Any) -> dict[str, Any]:
    assert isinstance(result, CallToolResult) and not result.is_error, result
    assert result.structured_content is not None
    content: dict[str, Any] = result.structured_content
    return content


def complaint(result: Any) -> str:
    assert isinstance(result, CallToolResult) and result.is_error
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert "\n" not in content.text
    return content.text


def test_every_tool_says_what_it_does_and_what_it_takes(with_tools: Callable[[Steps], None]) -> None:
    async def steps(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tuple(tools) == TOOLS
        for tool in tools.values():
            assert tool.description and tool.description[0].isupper()
            assert all("description" in field for field in tool.input_schema["properties"].values())
            assert tool.output_schema is not None and tool.annotations is not None
            assert tool.annotations.read_only_hint is (tool.name in ("search_memories", "get_memory", "ask"))

    with_tools(steps)


def test_what_is_added_is_read_word_for_word_and_found(with_tools: Callable[[Steps], None]) -> None:
    async def steps(client: Client) -> None:
        texts = ["Ana lives in Oslo.", "Ben keeps\n\nbees, \U0001f41d and <b>cows</b>." * 5]
        added = [value(await client.call_tool("add_memory", {"text": text})) for text in texts]
        assert len({one["id"] for one in added}) == 2 and all(one["tokens"] > 10 for one in added)
        read = [value(await client.call_tool("get_memory", {"memory_id": one["id"]})) for one in added]
        assert [one["text"] for one in read] == texts and all(one["added_at"] for one in read)
        passages = value(await client.call_tool("search_memories", {"query": "bees?", "limit": 3}))["passages"]
        assert len(passages) <= 3 and {one["id"] for one in passages} <= {one["id"] for one in added}
        answer = value(await client.call_tool("ask", {"question": "bees?"}))
        assert isinstance(answer["answer"], str) and {one["id"] for one in answer["passages"]} <= {one["id"] for one in added}

    with_tools(steps)


def test_what_is_deleted_is_gone(with_tools: Callable[[Steps], None]) -> None:
    async def steps(client: Client) -> None:
        ids = [value(await client.call_tool("add_memory", {"text": f"Number {n} is here."}))["id"] for n in range(3)]
        assert value(await client.call_tool("delete_memory", {"memory_id": ids[1]})) == {"deleted": 1}
        assert ids[1] in complaint(await client.call_tool("get_memory", {"memory_id": ids[1]}))
        assert "Number 2" in value(await client.call_tool("get_memory", {"memory_id": ids[2]}))["text"]
        assert value(await client.call_tool("delete_all_memories", {})) == {"deleted": 2}
        assert value(await client.call_tool("delete_all_memories", {})) == {"deleted": 0}
        assert "no memory has the id" in complaint(await client.call_tool("get_memory", {"memory_id": ids[0]}))

    with_tools(steps)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("add_memory", {}, "text: field required"),
        ("add_memory", {"text": " \n"}, "text is empty"),
        ("add_memory", {"text": 5}, "text: input should be a valid string"),
        ("search_memories", {"query": "x", "limit": 0}, "limit: input should be greater than or equal to 1"),
        ("search_memories", {"query": "\t"}, "query is empty"),
        ("get_memory", {"memory_id": "../../etc"}, "no memory has the id '../../etc'"),
        ("delete_memory", {"memory_id": "x"}, "no memory has the id 'x'"),
        ("ask", {"question": " "}, "question is empty"),
        ("forget_everything", {}, "forget_everything"),
    ],
)
def test_a_mistake_is_one_sentence(with_tools: Callable[[Steps], None], tool: str, arguments: dict[str, Any], said: str) -> None:
    async def steps(client: Client) -> None:
        assert said in complaint(await client.call_tool(tool, arguments))

    with_tools(steps)


class Broken(OwnMemory):
    """Fails as a disk or a bug would."""

    error: Exception = MPlusError("")

    async def get(self, id: str) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MPlusError("the disk\nis full"), "the disk is full"),
        (RuntimeError("secret of the inside"), "Error executing tool get_memory"),
    ],
)
def test_an_own_error_is_told_and_a_bug_is_not(tmp_path: Path, text_model: MPlusModel, error: Exception, said: str) -> None:
    async def steps() -> None:
        memory = Broken(Engine(text_model, ServerSettings(home=tmp_path)), Scope(LOCAL, "notes"))
        memory.error = error
        await memory.open()
        async with Client(MemoryServer(memory)) as client:
            assert complaint(await client.call_tool("get_memory", {"memory_id": "x"})) == said

    anyio.run(steps)
