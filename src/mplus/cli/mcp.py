"""`mplus mcp`: a memory as tools of a model, over stdin and stdout. What is not the protocol goes to stderr."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mplus.cli import terminal
from mplus.cli.model import open_model
from mplus.cli.options import DEFAULT_NAME, HomeDirectory, ModelName, Verbose
from mplus.errors import InputError
from mplus.memory.home import default_home
from mplus.runtime.extras import require

if TYPE_CHECKING:
    from mplus.server.mcp.backend import Backend


def mcp(
    model: ModelName = DEFAULT_NAME,
    home: HomeDirectory = None,
    memory: Annotated[str, typer.Option("--memory", metavar="NAME", help="The memory of the tools; made if absent.")] = "mcp",
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A running `mplus serve` that has the memory; then no model is opened here."),
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", metavar="VARIABLE", help="Environment variable with the server's key.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Serve a memory as MCP tools over stdin and stdout: add, search, get, delete, delete all, ask.

    An MCP client starts it. The memory lies with those of `mplus serve` of the same home, which only one of both can have open: while a
    server runs, give its --url.
    """
    require("mcp", "`mplus mcp`")
    _run(_own(model, home, memory) if url is None else _remote(url, api_key_env, memory))


def _run(backend: Backend) -> None:
    """Serve until the client closes our stdin."""
    import anyio

    from mplus.server.mcp.tools import MemoryServer

    async def serve() -> None:
        await backend.open()
        terminal.note("mplus: the memory's tools are ready on stdin and stdout; an MCP client speaks there")
        await MemoryServer(backend).run_stdio_async()

    anyio.run(serve)


def _own(model: str, home: Path | None, memory: str) -> Backend:
    """A memory in this process."""
    from mplus.server.scope import LOCAL, Scope

    scope = Scope(LOCAL, memory)  # a wrong name is told before the model is opened
    with ThreadPoolExecutor(1) as opening:  # this thread must not compute in parallel, see mplus.server.io_threads
        opened = opening.submit(open_model, model).result()
    from mplus.server.engine import Engine
    from mplus.server.mcp.own_memory import OwnMemory
    from mplus.server.settings import ServerSettings

    return OwnMemory(Engine(opened, ServerSettings(home=home or default_home() / "server")), scope)


def _remote(url: str, api_key_env: str | None, memory: str) -> Backend:
    """A memory on a server."""
    from mplus.server.mcp.server_memory import ServerMemory
    from mplus.server.scope import checked_id

    key = None
    if api_key_env is not None and not (key := os.environ.get(api_key_env)):
        raise InputError(f"--api-key-env {api_key_env}: this variable is not set, or empty; put the server's key into it")
    return ServerMemory(url, checked_id(memory, "--memory"), key=key)
