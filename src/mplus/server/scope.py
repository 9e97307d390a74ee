"""Whose memory: a tenant and the id that the tenant gave it. Nothing is looked up by the id alone. Knows no disk and no web."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mplus.server.errors import BadRequestError

LONGEST_ID = 256
LOCAL = "local"
"""The tenant of a server without keys."""


@dataclass(frozen=True, order=True)
class Scope:
    """One memory of one tenant.

    Raises:
        BadRequestError: the id is empty, too long or not printable.
    """

    tenant: str
    memory: str

    def __post_init__(self) -> None:
        checked_id(self.memory, "memory id")

    @property
    def directory(self) -> str:
        """Name of its directory; two scopes never share one, whatever stands in their names."""
        return digest_of(self.tenant, self.memory)


def checked_id(value: str, what: str) -> str:
    """A name that a client gave.

    Raises:
        BadRequestError: says what is wrong with it.
    """
    if not isinstance(value, str):
        raise BadRequestError(f"{what} must be a string, got {type(value).__name__}")
    if not value.strip():
        raise BadRequestError(f"{what} is empty; give 1 to {LONGEST_ID} printable characters")
    if len(value) > LONGEST_ID:
        raise BadRequestError(f"{what} has {len(value):,} characters, at most {LONGEST_ID} are allowed")
    if not value.isprintable():
        raise BadRequestError(f"{what} {value[:40]!a} holds a character that cannot be printed; use printable characters")
    return value


def digest_of(*parts: str) -> str:
    """A hash of strings, each with its length before it, so that no two lists of strings meet."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:40]
