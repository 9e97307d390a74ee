"""OpenAI's endpoints over memories: models, chat and text completions, responses, conversations. Knows no worker and no disk."""

from __future__ import annotations

from fastapi import APIRouter

from mplus.server.documented import errors
from mplus.server.openai import chat, completions, conversations, models, responses

router = APIRouter(responses=errors(404, 413))
for room in (models, chat, completions, responses, conversations):
    router.include_router(room.router)
