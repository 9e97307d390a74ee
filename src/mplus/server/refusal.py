"""How a refusal looks to each client: OpenAI's form, mem0's or llama.cpp's, by path. Knows no route."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

from mplus.server.errors import (
    ApiError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooLargeError,
    UnauthorisedError,
    UnavailableError,
)

MEM0_PATHS = ("/memories", "/search", "/entities", "/reset", "/configure", "/v1/ping", "/v1/batch", "/v1/entities", "/v2", "/v3")
LLAMACPP_PATHS = ("/slots", "/ready")


class MethodError(ApiError):
    """A path that is there, asked with a method that it has not."""

    status, default_code = 405, "method_not_allowed"


class SlowError(ApiError):
    """A body that does not come."""

    status, default_code = 408, "request_timeout"


def below(path: str, roots: Sequence[str]) -> bool:
    """Whether a path is one of some, or below one."""
    return any(path == root or path.startswith(root + "/") for root in roots)


def is_mem0(path: str) -> bool:
    """Whether a path is one of mem0's; those that its client calls below /v1/memories end in a slash."""
    return below(path, MEM0_PATHS) or (path.startswith("/v1/memories/") and path.endswith("/"))


def refusal(error: ApiError, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The response to a request that is refused."""
    status = 422 if getattr(error, "is_validation", False) and is_mem0(path) else error.status
    body: dict[str, Any]
    if is_mem0(path):
        body = {"detail": error.message}
    elif below(path, LLAMACPP_PATHS):
        body = {"error": {"code": status, "message": error.message, "type": error.kind}}
    else:
        body = {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}
    more = dict(headers or {})
    if error.retry_after_s is not None:
        more["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=more)


class ValidationError(BadRequestError):
    """A body or a parameter that has not the form of its endpoint."""

    is_validation = True


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ValidationError:
    """One sentence of what pydantic found; the first of several, with their number."""
    first = errors[0]
    if isinstance(first.get("input"), bytes):
        return ValidationError("the body must be JSON, with the header 'Content-Type: application/json'")
    where = [str(part) for part in first.get("loc", ()) if part not in ("body", "query", "path", "header")]
    place = ".".join(where) or "the body"
    message = str(first.get("msg", "is wrong")).removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ValidationError(f"{place}: {message[:1].lower()}{message[1:]}{more}", param=".".join(where) or None)


def http_error(status: int, detail: str) -> ApiError:
    """The error for a status that the web framework gave by itself."""
    match status:
        case 401:
            return UnauthorisedError(detail)
        case 403:
            return ForbiddenError(detail)
        case 404:
            return NotFoundError("there is nothing at this path; GET /openapi.json lists those there are", code="unknown_path")
        case 405:
            return MethodError("this path has not that method; the header Allow lists those it has")
        case 408:
            return SlowError(detail)
        case 409:
            return ConflictError(detail)
        case 413:
            return TooLargeError(detail)
        case 503:
            return UnavailableError(detail)
        case _:
            return BadRequestError(detail)
