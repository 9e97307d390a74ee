"""``/v1/models``: the one model that is served."""

from __future__ import annotations

import time
from typing import Any, Final

from fastapi import APIRouter

from mplus.server.auth import Caller, Served
from mplus.server.openai.schemas import check_model

router = APIRouter(tags=["OpenAI"])
STARTED: Final = int(time.time())


@router.get("/v1/models")
async def list_models(engine: Served, caller: Caller) -> dict[str, Any]:
    """List the model."""
    return {"object": "list", "data": [model_json(engine.model.name)]}


@router.get("/v1/models/{model:path}")
async def retrieve_model(model: str, engine: Served, caller: Caller) -> dict[str, Any]:
    """Describe the model."""
    check_model(model, engine.model.name)
    return model_json(model)


def model_json(name: str) -> dict[str, Any]:
    """OpenAI's form of a model."""
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "mplus"}
