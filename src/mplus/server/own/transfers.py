"""``/v1/memories/{id}/export`` and ``/v1/memories/import``: a memory as one file (``.mplus``). Knows no source."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from mplus.server.auth import Caller, Served
from mplus.server.documented import errors
from mplus.server.engine import Engine
from mplus.server.errors import BadRequestError
from mplus.server.own import bodies
from mplus.server.raw_path import RawPathRoute
from mplus.server.scope import Scope

router = APIRouter(prefix="/v1/memories", tags=["memories"], route_class=RawPathRoute)
TRANSFERS = "transfers"
"""Directory of the home for files that come and go; it is emptied when the server starts."""
PIECE_BYTES = 1 << 20
MEDIA_TYPE = "application/vnd.mplus.memory+zip"
BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
ARCHIVE: dict[str, Any] = {"content": {MEDIA_TYPE: BYTES}}


@router.get(
    "/{memory}/export", summary="Export a memory", response_class=StreamingResponse, responses={200: ARCHIVE, **errors(404)}
)
async def export_memory(caller: Caller, engine: Served, memory: bodies.MemoryId) -> StreamingResponse:
    """The whole memory as one `.mplus` file, which `import` and `mplus import` read."""
    scope = Scope(caller.tenant, memory)
    folder = await asyncio.to_thread(_folder, engine)
    try:
        await engine.export(scope, folder / "memory.mplus")
        file = await asyncio.to_thread((folder / "memory.mplus").open, "rb")
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)  # the open file lives until it is sent
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(memory, safe='')}.mplus"}
    headers["Content-Length"] = str(file.seek(0, 2))
    file.seek(0)
    return StreamingResponse(_pieces(file), media_type=MEDIA_TYPE, headers=headers)


@router.post(
    "/import",
    status_code=201,
    summary="Import a memory",
    responses=errors(400, 409, 413),
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": BYTES}}},
)
async def import_memory(
    request: Request,
    caller: Caller,
    engine: Served,
    id: Annotated[bodies.Identifier, Query(description="of the memory that is made")],
) -> bodies.Memory:
    """Make a memory of an exported file, which is the whole body."""
    scope = Scope(caller.tenant, id)
    folder = await asyncio.to_thread(_folder, engine)
    try:
        size = 0
        with (folder / "memory.mplus").open("xb") as file:
            async for piece in request.stream():
                size += len(piece)
                await asyncio.to_thread(file.write, piece)
        if not size:
            raise BadRequestError("the body is empty; send an exported memory, the file itself")
        return bodies.Memory.of(await engine.import_(scope, folder / "memory.mplus"))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def clear_transfers(home: Path) -> None:
    """Delete what a killed server left of files on their way."""
    shutil.rmtree(home / TRANSFERS, ignore_errors=True)


def _folder(engine: Engine) -> Path:
    place = engine.settings.home / TRANSFERS
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=place))


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece
    finally:
        file.close()
