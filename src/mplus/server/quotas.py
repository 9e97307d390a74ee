"""`/v1/quota`: how many bytes a tenant may store, set by an operator. Counts nothing itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from mplus.server.auth import Admin, Served
from mplus.server.documented import errors
from mplus.server.engine import Engine
from mplus.server.errors import NotFoundError
from mplus.server.raw_path import RawPathRoute
from mplus.server.scope import LONGEST_ID, checked_id

MOST_BYTES = 2**62 - 1

router = APIRouter(prefix="/v1/quota", tags=["operations"], route_class=RawPathRoute)
Tenant = Annotated[str, Path(description="a tenant, as keys name it", max_length=LONGEST_ID, examples=["anna"])]


class SetQuota(BaseModel):
    """What an operator says."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"bytes": 1 << 30}]})

    bytes: int = Field(ge=0, le=MOST_BYTES, description="bytes that may be stored", examples=[1 << 30])


class Quota(BaseModel):
    """What a tenant may store, and does."""

    object: str = "quota"
    tenant: str
    bytes: int | None = Field(description="bytes that may be stored; null: no limit")
    used_bytes: int
    is_default: bool = Field(description="whether this is the server's own limit, since none was set for the tenant")


class Quotas(BaseModel):
    """All that were set."""

    object: str = "list"
    data: list[Quota]


async def _quota(engine: Engine, tenant: str) -> Quota:
    set_bytes = engine.index.quota(tenant)
    return Quota(
        tenant=tenant,
        bytes=engine.settings.tenant_bytes if set_bytes is None else set_bytes,
        used_bytes=await engine.stored_bytes(tenant),
        is_default=set_bytes is None,
    )


@router.get("", summary="List quotas")
async def list_quotas(caller: Admin, engine: Served) -> Quotas:
    """All quotas that were set, with what is used of each."""
    return Quotas(data=[await _quota(engine, tenant) for tenant in engine.index.quotas()])


@router.get("/{tenant}", summary="Tell a quota", responses=errors())
async def get_quota(caller: Admin, engine: Served, tenant: Tenant) -> Quota:
    """What a tenant may store, and does."""
    return await _quota(engine, checked_id(tenant, "tenant"))


@router.put("/{tenant}", summary="Set a quota", responses=errors())
async def set_quota(caller: Admin, engine: Served, tenant: Tenant, body: SetQuota) -> Quota:
    """Let a tenant store so many bytes; what it has beyond that stays, and it can write no more."""
    engine.index.set_quota(checked_id(tenant, "tenant"), body.bytes)
    return await _quota(engine, tenant)


@router.delete("/{tenant}", summary="Unset a quota", responses=errors(404))
async def delete_quota(caller: Admin, engine: Served, tenant: Tenant) -> Quota:
    """Let the server's own limit hold for a tenant again."""
    if not engine.index.delete_quota(checked_id(tenant, "tenant")):
        raise NotFoundError("no quota is set for this tenant; GET /v1/quota lists those that are")
    return await _quota(engine, tenant)
