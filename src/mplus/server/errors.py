"""Errors that a client is told, with their status. Knows no web framework.

Messages of the package's own errors are written for people and name no file of the server; those of ``SnapshotError`` do, so a client
is told the general sentence and the log has the particular one.
"""

from __future__ import annotations

from typing import ClassVar

from mplus.errors import CapacityError, InputError, MPlusError, PromptTooLongError, ReentryError, SnapshotError


class ApiError(MPlusError):
    """A request that is refused.

    Args:
        message: one sentence: what, got, expected, what to do.
        param: the field it is about.
        code: OpenAI's name of the problem; None: that of the class.
        retry_after_s: when to come back (429, 503).
    """

    status: ClassVar[int] = 400
    kind: ClassVar[str] = "invalid_request_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.retry_after_s = message, param, retry_after_s
        self.code = code or self.default_code


class BadRequestError(ApiError):
    """A value cannot be used."""


class UnauthorisedError(ApiError):
    """No key, or one that the server does not know."""

    status, kind, default_code = 401, "authentication_error", "invalid_api_key"


class ForbiddenError(ApiError):
    """A key that may not do this."""

    status, kind, default_code = 403, "permission_error", "forbidden"


class NotFoundError(ApiError):
    """Nothing of that id is this tenant's."""

    status, default_code = 404, "not_found"


class UnknownMemoryError(NotFoundError):
    """The tenant has no memory of that id."""

    default_code = "memory_not_found"


class UnknownSourceError(NotFoundError):
    """The memory has no source of that name."""

    default_code = "source_not_found"


class ConflictError(ApiError):
    """It exists already, or is being changed."""

    status, default_code = 409, "conflict"


class TooLargeError(ApiError):
    """A body, an upload, a prompt or a memory beyond its limit."""

    status, default_code = 413, "too_large"


class BusyError(ApiError):
    """Too many requests, or a quota that is used up."""

    status, kind, default_code = 429, "rate_limit_error", "rate_limit_exceeded"


class QuotaError(BusyError):
    """The stored bytes of a tenant are used up."""

    kind, default_code = "insufficient_quota", "insufficient_quota"


class UnavailableError(ApiError):
    """The server starts, stops, or cannot hold more."""

    status, kind, default_code = 503, "unavailable_error", "unavailable"


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of an error; anything that is not its own mistake says nothing of the inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, PromptTooLongError):
        return BadRequestError(str(error), code="context_length_exceeded")
    if isinstance(error, CapacityError):
        return UnavailableError("the server has no room for this now; try again later", retry_after_s=5)
    if isinstance(error, SnapshotError):
        return UnavailableError("this memory cannot be opened now; the operator's log says why", code="memory_unavailable")
    if isinstance(error, ReentryError) or not isinstance(error, (InputError, MPlusError)):
        return InternalError("the server met an error that is not yours; the operator's log has it under this request's id")
    return BadRequestError(str(error))


class InternalError(ApiError):
    """A fault of the server."""

    status, kind, default_code = 500, "server_error", "internal_error"
