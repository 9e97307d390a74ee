"""Which memory a request reads and writes, from its body and its headers. Opens no memory.

In this order: a conversation or the chain of ``previous_response_id`` (the routes look those up), ``memory.id`` of the body, the header
``X-Memory-Id``, and ``user`` where the operator allows that. None of them: the bare model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mplus.conversation import Remember
from mplus.server.answers import AnswerRequest, AnswerResult
from mplus.server.engine import Engine
from mplus.server.errors import BadRequestError, UnknownMemoryError
from mplus.server.openai.schemas import MemoryOptions
from mplus.server.scope import Scope, checked_id

MEMORY_HEADER: Final = "X-Memory-Id"
WRITE_HEADER: Final = "X-Memory-Write"


@dataclass(frozen=True, kw_only=True)
class AnswerDetails:
    """What an answer tells of its memory.

    Attributes:
        trace: which passages were read.
        confidence: how likely it is that the memory holds the answer.
        min_confidence: below it the answer is refused; None: never.
    """

    trace: bool = False
    confidence: bool = False
    min_confidence: float | None = None

    def of(self, request: AnswerRequest) -> AnswerRequest:
        """The request, asking for this."""
        return replace(request, trace=self.trace, confidence=self.confidence, min_confidence=self.min_confidence)

    def memory_json(self, scope: Scope | None, result: AnswerResult) -> dict[str, Any]:
        """What an answer tells of its memory, where that is asked for."""
        if scope is None or not (self.trace or self.confidence):
            return {}
        known: dict[str, Any] = {"id": scope.memory}
        if self.trace:
            read = {} if result.trace is None else result.trace.to_json()
            known |= {"sources": read.get("sources", []), "passages": list(read.get("passages", ()))}
        if self.confidence:
            known |= {"confidence": result.confidence, "refused": result.is_refused}
        return {"memory": known}


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a client said of the memory.

    Attributes:
        id: None: no memory was named.
        in_body: whether the body names it; a header may come from a proxy that names it in all requests.
        write: None: not said.
        details: what the answer tells of the memory.
    """

    id: str | None = None
    in_body: bool = False
    write: Remember | None = None
    details: AnswerDetails = AnswerDetails()

    def scope(self, tenant: str) -> Scope | None:
        """The memory, as this tenant's."""
        return None if self.id is None else Scope(tenant, self.id)


def named_memory(headers: Mapping[str, str], memory: MemoryOptions | None, user: str | None, *, user_is_memory: bool) -> Named:
    """Read body and headers; the body counts more.

    Raises:
        BadRequestError: an id or a header cannot be used.
    """
    options = memory or MemoryOptions()
    write = options.write or _header(headers, WRITE_HEADER)
    if write is not None and write not in tuple(Remember):
        raise BadRequestError(f"the header {WRITE_HEADER} must be none, user or both, got {write!r:.40}", param=WRITE_HEADER)
    name = options.id if options.id is not None else _header(headers, MEMORY_HEADER)
    if name is None and user_is_memory:
        name = user
    return Named(
        id=None if name is None else checked_id(name, "memory.id"),
        in_body=options.id is not None,
        write=None if write is None else Remember(write),
        details=AnswerDetails(
            trace=options.trace,
            confidence=options.confidence or options.min_confidence is not None,
            min_confidence=options.min_confidence,
        ),
    )


def _header(headers: Mapping[str, str], name: str) -> str | None:
    """A header's value; HTTP's libraries take its bytes for Latin-1, clients mean UTF-8."""
    value = headers.get(name)
    if value is None:
        return None
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def check_same(named: Named, scope: Scope) -> None:
    """Refuse a body that names another memory than its conversation has.

    Raises:
        BadRequestError.
    """
    if named.in_body and named.id != scope.memory:
        raise BadRequestError(
            f"this conversation is in memory {scope.memory!r}, memory.id is {named.id!r}; leave memory.id out", param="memory.id"
        )


async def readable(engine: Engine, scope: Scope | None, *, is_written: bool) -> Scope | None:
    """The memory to read; None where it begins with this request.

    Raises:
        UnknownMemoryError: it is not there, and nothing is to be written.
    """
    if scope is None:
        return None
    try:
        await engine.memory(scope)
    except UnknownMemoryError:
        if not is_written:
            raise
        return None
    return scope
