"""`mplus mcp` in a process of its own, used over stdin and stdout by the SDK's client."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import StdioServerParameters
from mcp.client.client import Client

from mplus import MPlusModel
from mplus.server.engine import Engine
from mplus.server.mcp.own_memory import OwnMemory
from mplus.server.mcp.tools import MemoryServer
from mplus.server.scope import LOCAL, Scope
from mplus.server.settings import ServerSettings
from tests.unit.cli.test_commands import SOURCES
from tests.unit.server.mcp.test_tools import TOOLS, complaint, value

pytestmark = pytest.mark.slow
COMMAND = """
import sys
from mplus.cli import main, mcp
def opened(*given, **named):
    from tests.tiny import text_model
    return text_model()
mcp.open_model = opened
sys.exit(main(sys.argv[1:]))
"""


def test_a_client_uses_all_tools_over_stdio_and_the_memory_outlives_the_process(text_model: MPlusModel, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": f"{SOURCES}{os.pathsep}{SOURCES.parent}", "OMP_NUM_THREADS": "1", "MPLUS_CACHE": str(tmp_path)}
    command = ["-c", COMMAND, "mcp", "--memory", "notes", "--home", str(tmp_path / "home")]
    server = StdioServerParameters(command=sys.executable, args=command, env={**os.environ, **environment})

    async def steps() -> None:
        async with Client(server, read_timeout_seconds=120) as client:

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                return value(await client.call_tool(tool, arguments))

            assert tuple(tool.name for tool in (await client.list_tools()).tools) == TOOLS
            first = (await call("add_memory", text="The boat of Ilse is red."))["id"]
            second = (await call("add_memory", text="Ben keeps bees."))["id"]
            assert "red" in str(await call("search_memories", query="Which colour has the boat of Ilse?"))
            assert isinstance((await call("ask", question="Which colour has the boat of Ilse?"))["answer"], str)
            await call("delete_memory", memory_id=second)
            assert second in complaint(await client.call_tool("get_memory", {"memory_id": second}))
            assert (await call("get_memory", memory_id=first))["text"] == "The boat of Ilse is red."

    async def again() -> None:
        memory = OwnMemory(Engine(text_model, ServerSettings(home=tmp_path / "home")), Scope(LOCAL, "notes"))
        await memory.open()
        async with Client(MemoryServer(memory)) as client:
            assert "red" in str(value(await client.call_tool("search_memories", {"query": "Which colour has the boat?"})))
            value(await client.call_tool("delete_all_memories", {}))
            assert "red" not in str(value(await client.call_tool("search_memories", {"query": "Which colour has the boat?"})))

    anyio.run(steps)
    anyio.run(again)
