"""Counts and sizes of a memory, for people. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class MemoryStats:
    """Counts of a memory; sizes in bytes."""

    tokens_read: int
    chunks: int
    pending_tokens: int
    stm_tokens: int
    stm_capacity: int
    ltm_tokens: int
    ltm_capacity: int
    size_bytes: int
    memory_format: str
    sources: dict[str, int] = field(default_factory=dict)
