"""The web application: which rooms of routes there are, what stands before them, and how each error is told. Knows no route of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from mplus import __version__
from mplus.errors import MPlusError
from mplus.model import MPlusModel
from mplus.server.access import Authenticated, check_binding
from mplus.server.auth import principal
from mplus.server.description import described
from mplus.server.engine import Engine
from mplus.server.errors import as_api_error
from mplus.server.io_threads import io_threads
from mplus.server.keys import Keys
from mplus.server.limits import FailedKeys, Limited
from mplus.server.metrics import Metrics
from mplus.server.refusal import http_error, refusal, validation_error
from mplus.server.requests import Observed
from mplus.server.settings import ServerSettings

log = logging.getLogger(__name__)

PUBLIC_ROUTERS = ("health", "page")
ROUTERS = ("openai", "mem0", "own", "llamacpp", "quotas", "metrics")
"""Modules of this room with a ``router``."""

OpenModel = Callable[[], MPlusModel]


def create_app(
    settings: ServerSettings,
    *,
    engine: Engine | None = None,
    model: MPlusModel | OpenModel | None = None,
    failed: Callable[[Exception], None] = lambda error: None,
) -> FastAPI:
    """The application, testable without a socket.

    Args:
        engine: answers the requests; None: one is made of `model`.
        model: an open model, or what opens one: then the application starts at once and is ready when that is done.
        failed: called where the model could not be opened, or its engine not started.

    Raises:
        InputError: there are no keys and others could reach it, or the key file cannot be read.
    """
    check_binding(settings.host, has_keys=settings.api_keys is not None)
    keys = None if settings.api_keys is None else Keys(settings.api_keys)
    metrics = Metrics(lambda: app.state.engine)
    app = FastAPI(
        title="mplus",
        version=__version__,
        lifespan=lambda app: _lifespan(app, settings, engine, model, failed),
        docs_url=None,  # its scripts come from elsewhere
        redoc_url=None,
        middleware=_middleware(settings, keys, metrics),
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.engine, app.state.settings, app.state.keys, app.state.metrics = None, settings, keys, metrics
    for name in PUBLIC_ROUTERS:
        _include(app, name)
    for name in ROUTERS:
        _include(app, name, dependencies=[Depends(principal)])
    app.openapi = lambda: described(app)  # type: ignore[method-assign]
    app.add_exception_handler(MPlusError, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    return app


def _include(app: FastAPI, name: str, **options: Any) -> None:
    app.include_router(import_module(f"mplus.server.{name}").router, **options)


def _middleware(settings: ServerSettings, keys: Keys | None, metrics: Metrics) -> list[Middleware]:
    """What each request passes, the outermost first."""
    cors = [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Memory-Id", "X-Memory-Write"],
            expose_headers=["x-request-id", "Retry-After"],
        )
    ]
    return [
        Middleware(Observed, metrics=metrics),
        *(cors if settings.cors_origins else []),
        Middleware(Authenticated, keys=keys, origins=settings.cors_origins, failed=FailedKeys(metrics.failed_keys.inc)),
        Middleware(Limited, settings=settings, has_keys=keys is not None),
    ]


@asynccontextmanager
async def _lifespan(
    app: FastAPI,
    settings: ServerSettings,
    engine: Engine | None,
    model: MPlusModel | OpenModel | None,
    failed: Callable[[Exception], None],
) -> AsyncIterator[None]:
    """Run the engine as long as the application runs; a model that must be opened first is opened beside it."""

    events = app.state.metrics.worker

    async def start(started: Engine) -> None:
        await started.start()
        app.state.engine = started

    async def open_and_start(opens: OpenModel) -> None:
        try:
            await io_threads()
            await start(Engine(await asyncio.to_thread(opens), settings, events))
            log.info("ready")
        except Exception as error:
            failed(error)

    opening: asyncio.Task[None] | None = None
    if engine is not None or isinstance(model, MPlusModel):
        await start(engine or Engine(cast(MPlusModel, model), settings, events))
    elif model is not None:
        opening = asyncio.create_task(open_and_start(model))
    else:
        raise TypeError("create_app needs an engine or a model")
    try:
        yield
    finally:
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        running, app.state.engine = app.state.engine, None
        if running is not None:
            await running.stop()


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """The refusal in the form of the path's clients."""
    if isinstance(error, RequestValidationError):
        told = validation_error(error.errors())
        return refusal(told, request.url.path)
    if isinstance(error, HTTPException):
        return refusal(http_error(error.status_code, error.detail), request.url.path, error.headers)
    request.state.error = error
    return refusal(as_api_error(error), request.url.path)
