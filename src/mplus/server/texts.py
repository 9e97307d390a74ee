"""A text to write, under the name of its source. Knows no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mplus.memory.selection import Time


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """A text to write, under the name of its source."""

    source: str
    text: str
    at: Time | None = None
    note: Mapping[str, Any] | None = None
