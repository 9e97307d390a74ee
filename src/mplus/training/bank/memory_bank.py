"""Encoded documents kept between steps, without gradient. Knows nothing of samples or losses.

Legend: C chunks, n memory tokens of a chunk, L layers, V layers whose states are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from mplus.memory.rows import Rows
from mplus.training.bank.chunk_encoder import ChunkEncoder
from mplus.training.data.document import Document


class MemoryBank:
    """A ring of C chunks in preallocated tensors; fresh documents take the place of the oldest.

    Its chunks fill the memories of later steps (what else stands in short- and long-term memory), are the wrong candidates a
    retriever learns against, and are asked about themselves (the paper's cached documents, section 3.4).

    Args:
        fields: more fields than the encoder's, as name to (groups, *shape of a row).

    Attributes:
        fields: name to [L or V, C * n, ...]; column ``c * n + r`` is row r of chunk c.
        documents: first chunk's place to the document that begins there.
    """

    def __init__(
        self, encoder: ChunkEncoder, chunks: int, device: torch.device, fields: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        self.encoder, self.chunks, self.device = encoder, chunks, device
        self.rows_per_chunk = encoder.rows_per_chunk
        dtype = encoder.layout.dtype
        self.fields: Rows = {
            name: torch.zeros(groups, self.columns, *shape, dtype=dtype, device=device)
            for name, (groups, *shape) in {**encoder.fields, **(fields or {})}.items()
        }
        self.documents: dict[int, Document] = {}
        self._next = 0

    @property
    def columns(self) -> int:
        """C * n."""
        return self.chunks * self.rows_per_chunk

    @property
    def held(self) -> list[int]:
        """Chunks that hold something, ascending."""
        return sorted(first + step for first, document in self.documents.items() for step in range(len(document.chunks)))

    def add(self, documents: Sequence[Document], encoded: Iterable[Rows] | None = None) -> list[int]:
        """Keep documents of equally many whole chunks.

        Args:
            encoded: their rows [L or V, chunks * n, ...]; None: each document is encoded as if nothing stood before it.

        Returns:
            the place of each one's first chunk.
        """
        places = []
        for document, rows in zip(documents, self.encoder.documents(documents) if encoded is None else encoded, strict=True):
            count = len(document.chunks)
            first = self._next if self._next + count <= self.chunks else 0
            for place, old in list(self.documents.items()):
                if place < first + count and first < place + len(old.chunks):
                    del self.documents[place]
            columns = slice(first * self.rows_per_chunk, (first + count) * self.rows_per_chunk)
            for name, value in self.fields.items():
                value[:, columns] = rows[name].to(self.device)
            self.documents[first] = document
            self._next = first + count
            places.append(first)
        return places

    def state(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        documents = [[first, [list(chunk) for chunk in one.chunks], list(one.rest)] for first, one in self.documents.items()]
        return {"next": self._next, "documents": documents, "fields": dict(self.fields)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken."""
        self._next = int(state["next"])
        self.documents = {
            int(first): Document(tuple(tuple(chunk) for chunk in chunks), tuple(rest))
            for first, chunks, rest in state["documents"]
        }
        for name, value in state["fields"].items():
            self.fields[name].copy_(value)
