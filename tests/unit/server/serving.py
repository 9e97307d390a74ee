"""An engine on a tiny model for a block, and what may be looked for in the files it leaves. Knows no route."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from mplus import MPlusModel
from mplus.server.engine import Engine
from mplus.server.scope import Scope
from mplus.server.settings import ServerSettings

T = TypeVar("T")
ANNA, BEN = Scope("acme", "anna"), Scope("acme", "ben")


@asynccontextmanager
async def served(model: MPlusModel, home: Path, **settings: Any) -> AsyncIterator[Engine]:
    """An engine that is started, and stopped at the end as SIGTERM does."""
    engine = Engine(model, ServerSettings(home=home, **settings))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def serve(model: MPlusModel, home: Path, block: Callable[[Engine], Awaitable[T]], **settings: Any) -> T:
    """What a block gives that uses an engine, from its start to its stop."""

    async def run() -> T:
        async with served(model, home, **settings) as engine:
            return await block(engine)

    return asyncio.run(run())


async def texts(engine: Engine, scope: Scope) -> dict[str, str]:
    """All sources of a memory with their texts."""
    return {one.name: await engine.text(scope, one.name) for one in await engine.sources(scope)}


def copied_at_one_moment(home: Path, copy: Path) -> Path:
    """A copy of a home in use as a kill would leave it: taken again while the server changes a file meanwhile."""
    for _ in range(200):
        shutil.rmtree(copy, ignore_errors=True)
        before = moments(home)
        try:
            shutil.copytree(home, copy)
        except (OSError, shutil.Error):  # A file went while it was copied.
            continue
        if moments(home) == before:
            return copy
        time.sleep(0.01)
    raise AssertionError(f"{home} changed during each of 200 copies.")


def moments(home: Path) -> dict[str, tuple[int, int, int]]:
    """Each file below a home with its number, size and time of change."""
    found = {}
    for folder, _, names in os.walk(home):  # Unlike rglob it goes on where a folder went after its parent was read.
        for name in names:
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):  # As above.
                this = os.stat(path)
                found[path] = (this.st_ino, this.st_size, this.st_mtime_ns)
    return found


def found_in(home: Path, *secrets: bytes) -> list[str]:
    """Files below a home that hold one of some byte strings."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [str(path.relative_to(home)) for path in files if any(secret in path.read_bytes() for secret in secrets)]
