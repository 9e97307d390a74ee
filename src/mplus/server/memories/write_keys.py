"""Writes that are done once under an ``Idempotency-Key``, however often they are sent. Knows the index, no memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mplus.server.errors import ConflictError
from mplus.server.memories.index import Index, IndexEntry
from mplus.server.scope import Scope, checked_id, digest_of
from mplus.server.texts import SourceText

KEEP_KEYS_S = 24 * 3600.0
WRITE_KEY = "write_key"
"""Kind of the index' entries that keep what a write under a key gave."""


@dataclass(frozen=True)
class WriteKey:
    """The key of one write.

    Raises:
        BadRequestError: it is empty, too long or not printable.
    """

    scope: Scope
    key: str
    text: SourceText

    def __post_init__(self) -> None:
        checked_id(self.key, "the idempotency key")

    @property
    def id(self) -> str:
        """Of the scope and the key, as the index has it."""
        return digest_of(self.scope.memory, self.key)

    @property
    def of(self) -> str:
        """A print of what is written, salted with the key."""
        return hashlib.sha256(f"{self.key}\0{self.text.source}\0{self.text.text}".encode()).hexdigest()

    def line(self, tokens: int, total: int) -> dict[str, Any]:
        """What the journal keeps of it beside the text."""
        return {"key": self.id, "of": self.of, "result": [tokens, total]}

    def result(self, index: Index) -> tuple[int, int] | None:
        """Text tokens of the write that was done under this key, and those of the memory then; None: there was none.

        Raises:
            ConflictError: it was another write.
        """
        found = index.get(self.scope.tenant, WRITE_KEY, self.id)
        if found is None:
            return None
        if found.data["of"] != self.of:
            raise ConflictError("this idempotency key was used for another write; give every write a key of its own")
        tokens, total = found.data["result"]
        return int(tokens), int(total)


def key_entry(scope: Scope, change: Mapping[str, Any]) -> IndexEntry:
    """What the index keeps of a write whose line in the journal has a key."""
    return IndexEntry(
        tenant=scope.tenant,
        kind=WRITE_KEY,
        id=change["key"],
        memory=scope.memory,
        source=change["texts"][0][0],
        data={"result": change["result"], "of": change["of"]},
    )
