"""What routes are given: who asks (``Caller``, ``Admin``) and the engine (``Served``). The check itself is done in ``access``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mplus.server.engine import Engine
from mplus.server.errors import ForbiddenError, UnauthorisedError, UnavailableError
from mplus.server.keys import Principal


async def engine_of(request: Request) -> Engine:
    """The engine of this server.

    Raises:
        UnavailableError: the model is not open yet.
    """
    engine: Engine | None = request.app.state.engine
    if engine is None:
        raise UnavailableError("Loading model", retry_after_s=5)
    return engine


async def principal(request: Request) -> Principal:
    """Who asks, as ``access.Authenticated`` found out before the route.

    Raises:
        UnauthorisedError: nobody that the server knows.
    """
    found: Principal | None = getattr(request.state, "principal", None)
    if found is None:
        raise UnauthorisedError("this needs a key; send it as 'Authorization: Bearer KEY'")
    return found


async def admin(request: Request) -> Principal:
    """Who asks, where only an operator may.

    Raises:
        ForbiddenError: the key is not an admin's.
    """
    found = await principal(request)
    if not found.is_admin:
        raise ForbiddenError("this needs the key of an admin; `mplus serve keys add TENANT --admin` makes one")
    return found


Served = Annotated[Engine, Depends(engine_of)]
Caller = Annotated[Principal, Depends(principal)]
Admin = Annotated[Principal, Depends(admin)]
