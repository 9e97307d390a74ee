"""Routes whose names may hold slashes: the path is matched as it was sent, so that ``%2F`` is part of a name. Knows no memory."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope


class RawPathRoute(APIRoute):
    """A route that decodes each part of a path once, after it was matched."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match the path as the client sent it."""
        raw = scope.get("raw_path")
        if raw is None:  # the server does not say; then a name with a slash is not found
            return super().matches(scope)
        match, child = super().matches({**scope, "path": raw.split(b"?")[0].decode("latin-1")})
        if match is not Match.NONE:
            given: dict[str, Any] = child["path_params"]
            child["path_params"] = {name: unquote(value) for name, value in given.items()}
        return match, child
