"""The own side of the server: memories, their sources, and jobs, under ``/v1``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from mplus.server.own import job_routes, memories, reading, sources, transfers
from mplus.server.own.jobs import Jobs


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Have jobs as long as the application runs; they end before the engine does."""
    await asyncio.to_thread(transfers.clear_transfers, app.state.settings.home)
    app.state.jobs = Jobs()
    try:
        yield
    finally:
        await app.state.jobs.stop()


router = APIRouter(lifespan=_lifespan)
for part in (transfers, memories, reading, sources, job_routes):
    router.include_router(part.router)
