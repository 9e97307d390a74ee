"""The part of a model that encodes text for a memory, as a protocol. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from mplus.memory.rows import EncodedChunk, RowLayout, Rows
from mplus.settings import Geometry, MemoryFormat

if TYPE_CHECKING:
    from mplus.memory.memory import Memory


class Encoder(Protocol):
    """Encodes text as memory rows, and says which model they belong to."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def vocabulary(self) -> int: ...
    def refuse_reentry(self) -> None: ...
    def layout(self, memory_format: MemoryFormat, geometry: Geometry) -> RowLayout: ...
    def wrote(self, memory: Memory) -> bool: ...
    def encode(self, ids: Sequence[int] | Tensor, memory: Memory) -> EncodedChunk: ...
    def encode_many(self, requests: Sequence[tuple[Sequence[int], Memory]], *, batch: int) -> list[EncodedChunk]: ...
    def cut(self, text: str) -> list[list[int]]: ...
    def initial_rows(self, memory: Memory) -> tuple[Rows, Tensor | None] | None: ...
    def initial_longterm(self, memory: Memory) -> list[tuple[Rows, Tensor, Tensor | None]] | None: ...


class WritingModel(Protocol):
    """A model that memories can be written with."""

    @property
    def writer(self) -> Encoder: ...
