"""The mem0 side of the server: the paths of its open-source server, and those that its client calls of its cloud."""

from fastapi import APIRouter

from mplus.server.mem0 import hosted, open_source

router = APIRouter()
for part in (open_source, hosted):
    router.include_router(part.router)
