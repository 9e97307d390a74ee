"""llama.cpp's slots: ``GET /slots``, ``POST /slots/{id}?action=save|restore|erase``. Knows no other client.

A slot is the memory of that id: of the caller's tenant, made when it is first restored. Saving keeps a named file with the memory,
restoring puts its content in the place of the slot's, erasing forgets all of it. Files are a tenant's own. A file keeps what it holds when
sources of the memory are forgotten later, until it is saved anew or erased by its name.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field

from mplus.runtime.folder import file_bytes
from mplus.server.auth import Caller, Served
from mplus.server.documented import LlamaCppError, errors
from mplus.server.engine import Engine
from mplus.server.errors import BadRequestError, NotFoundError, QuotaError, UnknownMemoryError
from mplus.server.raw_path import RawPathRoute
from mplus.server.scope import Scope, checked_id, digest_of

router = APIRouter(tags=["llama.cpp"], route_class=RawPathRoute)
SAVED = "slots"
"""Directory of the home: a directory for each tenant, a file for each name, both by hash."""
MOST_SAVED = 64
"""Files of one tenant."""
SlotId = Annotated[
    str, PathParameter(description="id of a memory; numbers as llama.cpp counts slots are ids too", examples=["0"])
]
Action = Annotated[Literal["save", "restore", "erase"], Query(description="what is done with the slot")]


class SlotFile(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"filename": "alice.bin"}]})

    filename: str | None = Field(
        None, description="a name without separators; save and restore need one; erase deletes what was saved under it, too"
    )


class Slot(BaseModel):
    id: str
    n_ctx: int
    n_past: int = Field(description="tokens of the memory")
    is_processing: bool = False


class SaveTimings(BaseModel):
    save_ms: float


class RestoreTimings(BaseModel):
    restore_ms: float


class SlotSaved(BaseModel):
    id_slot: int | str
    filename: str
    n_saved: int
    n_written: int
    timings: SaveTimings


class SlotRestored(BaseModel):
    id_slot: int | str
    filename: str
    n_restored: int
    n_read: int
    timings: RestoreTimings


class SlotErased(BaseModel):
    id_slot: int | str
    n_erased: int


@router.get("/slots", summary="List slots", responses=errors(form=LlamaCppError))
async def list_slots(caller: Caller, engine: Served) -> list[Slot]:
    """Each memory of the key's tenant as a slot."""
    context = engine.settings.most_prompt_tokens
    return [Slot(id=one.id, n_ctx=context, n_past=one.tokens) for one in await engine.memories(caller.tenant)]


@router.post("/slots/{id_slot}", summary="Save, restore or erase a slot", responses=errors(404, form=LlamaCppError))
async def change_slot(
    caller: Caller, engine: Served, id_slot: SlotId, action: Action, body: SlotFile | None = None
) -> SlotSaved | SlotRestored | SlotErased:
    """Save a memory under a name, put what was saved in its place, or forget all of it."""
    scope = Scope(caller.tenant, id_slot)
    given = None if body is None else body.filename
    if action == "erase":
        return await _erase(engine, scope, given)
    name = checked_name(given)
    path = file_of(engine.settings.home, caller.tenant, name)
    return await (_save if action == "save" else _restore)(engine, scope, name, path)


async def _save(engine: Engine, scope: Scope, name: str, path: Path) -> SlotSaved:
    began = time.perf_counter()
    record = await engine.memory(scope)
    await asyncio.to_thread(_make_room, path)
    await engine.export(scope, path)
    size = await asyncio.to_thread(file_bytes, path)
    timings = SaveTimings(save_ms=(time.perf_counter() - began) * 1000)
    return SlotSaved(id_slot=slot_id_of(scope), filename=name, n_saved=record.tokens, n_written=size, timings=timings)


async def _restore(engine: Engine, scope: Scope, name: str, path: Path) -> SlotRestored:
    """Put a file's memory in the place of the slot's. It is opened under another id first, so that a damaged file changes nothing."""
    began = time.perf_counter()
    if not (size := await asyncio.to_thread(file_bytes, path)):
        raise NotFoundError(f"no slot was saved as {name!r}; save one under that name first", param="filename")
    aside = Scope(scope.tenant, f"slot_{digest_of(scope.memory, str(time.monotonic_ns()))[:24]}")
    await engine.import_(aside, path)
    try:
        with suppress(UnknownMemoryError):
            await engine.delete(scope)
        record = await engine.fork(aside, scope)
    finally:
        await engine.delete(aside)
    timings = RestoreTimings(restore_ms=(time.perf_counter() - began) * 1000)
    return SlotRestored(id_slot=slot_id_of(scope), filename=name, n_restored=record.tokens, n_read=size, timings=timings)


async def _erase(engine: Engine, scope: Scope, filename: str | None) -> SlotErased:
    record = await engine.memory(scope)
    if filename is not None:
        path = file_of(engine.settings.home, scope.tenant, checked_name(filename))
        await asyncio.to_thread(path.unlink, missing_ok=True)
    names = [one.name for one in await engine.sources(scope)]
    if names:
        await engine.forget(scope, names)
    return SlotErased(id_slot=slot_id_of(scope), n_erased=record.tokens)


def _make_room(path: Path) -> None:
    """Make the directory of a file that is saved.

    Raises:
        QuotaError: the tenant has as many as it may.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists() and sum(1 for _ in path.parent.iterdir()) >= MOST_SAVED:
        raise QuotaError(f"{MOST_SAVED} slots are saved already; save under one of their names, or erase one by its filename")


def checked_name(name: str | None) -> str:
    """The name of a saved slot.

    Raises:
        BadRequestError: it is missing, or could be a path.
    """
    if not name:
        raise BadRequestError("filename is missing; give the name under which the slot is saved", param="filename")
    checked_id(name, "filename")
    if "/" in name or "\\" in name or name in (".", ".."):
        raise BadRequestError(f"filename {name[:40]!r} holds a separator; give a name, not a path", param="filename")
    return name


def file_of(home: Path, tenant: str, name: str) -> Path:
    """Where a tenant's slot of a name is kept."""
    return home / SAVED / digest_of(tenant) / f"{digest_of(name)}.mplus"


def slot_id_of(scope: Scope) -> int | str:
    """The slot's id as llama.cpp tells it: a number where it is one."""
    return int(scope.memory) if scope.memory.isascii() and scope.memory.isdecimal() and len(scope.memory) < 10 else scope.memory
