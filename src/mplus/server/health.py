"""`/health` (the process lives) and `/ready` (the model is open). Public; says nothing of anybody."""

from __future__ import annotations

from fastapi import APIRouter, Request

from mplus.server.errors import UnavailableError

router = APIRouter(tags=["health"])


@router.get("/health", summary="Tell that the server lives")
@router.get("/v1/health", include_in_schema=False)
async def health() -> dict[str, str]:
    """200 as long as the process answers."""
    return {"status": "ok"}


@router.get("/ready", summary="Tell whether the model is open")
async def ready(request: Request) -> dict[str, str]:
    """200 when requests can be answered, 503 while the model is opened or the server ends."""
    if request.app.state.engine is None:
        raise UnavailableError("Loading model", retry_after_s=5)
    return {"status": "ok"}
