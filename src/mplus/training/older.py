"""Older memories: documents written some steps ago, kept without gradient. Knows nothing of sub-tasks or losses.

Legend: C chunks, n memory tokens of a chunk, L layers, H kv heads, E head width, D width, V searched layers, B rows, T tokens.

They fill the memories of later steps (what else stands in short- and long-term memory), are the wrong candidates a retriever
learns against, and are asked again themselves (the paper's cached documents, section 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mplus.attach.write_pass import Tail, keeps_write_kv, write_pass
from mplus.config import MemoryFormat
from mplus.memory.rows import RowLayout, Rows
from mplus.model import MPlusModel

WRITE_ROWS = 16  # chunks of one write pass without gradient


@dataclass(frozen=True)
class Document:
    """A text cut for training.

    Attributes:
        chunks: token ids of what is written, in order.
        rest: token ids of what follows the last chunk, to be asked.
    """

    chunks: tuple[tuple[int, ...], ...]
    rest: tuple[int, ...]


class Scribe:
    """Writes chunks in the form training reads them in: keys and values where the write pass makes those of a read, else hidden.

    Args:
        searches: also give the states a retriever is trained on.

    Attributes:
        searched: layers a retriever searches in, ascending; () without a search.
        states: of which layers states are stored beside the rows.
    """

    def __init__(self, model: MPlusModel, *, searches: bool) -> None:
        self.model = model
        self.format: MemoryFormat = "kv" if keeps_write_kv(model.geometry) else "hidden"
        layout = model.writer.layout(self.format, model.geometry.changed(ltm=False))
        fields = {name: shape for name, shape in layout.fields.items() if name != "search"}
        self.layout = RowLayout(
            format=self.format, layers=layout.layers, fields=fields, search_groups=0, dtype=layout.dtype, device=layout.device
        )
        retriever = model.attached.retriever if searches else None
        self.searched: tuple[int, ...] = () if retriever is None else retriever.layers
        self.states = self.searched if self.format == "kv" else ()  # hidden rows give them by the input norm

    @property
    def rows_per_chunk(self) -> int:
        """n, memory tokens of a whole chunk."""
        geometry = self.model.geometry
        return min(geometry.new_tokens, geometry.chunk_tokens)

    def write(self, ids: Tensor, tail: Tail, *, grad: bool, recompute: tuple[int, ...] = ()) -> Rows:
        """Fields [B, L or V, n, ...] of chunks [B, T]; ``states`` never carry gradient."""
        written = write_pass(
            self.model.attached, self.model.geometry, self.layout, ids, tail, grad=grad, states=self.states, recompute=recompute
        )
        return {name: torch.stack([one.rows[name] for one in written]) for name in written[0].rows}

    def tail(self, rows: Rows | None) -> Tail:
        """What the next chunks see of earlier rows [B, L, n, ...]: the newest K of them, without gradient."""
        if rows is None:
            return Tail()
        device, newest = self.model.device, slice(-self.model.geometry.new_tokens, None)
        held = {name: value[:, :, newest].detach().to(device) for name, value in rows.items() if name != "states"}
        if self.format == "hidden":
            return Tail(hidden=held["hidden"])
        return Tail(keys=held["keys"], values=held["values"])

    def write_documents(self, documents: Sequence[Document]) -> list[Rows]:
        """Rows [L or V, chunks * n, ...] of whole documents of equally many whole chunks, without gradient."""
        out: list[Rows] = []
        with torch.no_grad():
            for start in range(0, len(documents), WRITE_ROWS):
                some = documents[start : start + WRITE_ROWS]
                rounds: list[Rows] = []
                for chunk in range(len(some[0].chunks)):
                    ids = torch.tensor([one.chunks[chunk] for one in some], device=self.model.device)
                    rounds.append(self.write(ids, self.tail(rounds[-1] if rounds else None), grad=False))
                for row in range(len(some)):
                    out.append({name: torch.cat([part[name][row] for part in rounds], 1) for name in rounds[0]})
        return out


class Older:
    """The bank of older memories: a ring of C chunks in preallocated tensors.

    Attributes:
        fields: name to [L or V, C * n, ...]; column ``c * n + r`` is row r of chunk c.
        documents: first chunk's place to the document that begins there.
    """

    def __init__(self, scribe: Scribe, capacity_chunks: int, device: torch.device) -> None:
        self.scribe, self.capacity, self.device = scribe, capacity_chunks, device
        self.rows_per_chunk = scribe.rows_per_chunk
        layout, columns = scribe.layout, capacity_chunks * scribe.rows_per_chunk
        self.fields: Rows = {
            name: torch.zeros(layout.layers, columns, *shape, dtype=layout.dtype, device=device)
            for name, shape in layout.fields.items()
        }
        if scribe.states:
            width = scribe.model.attached.decoder.width
            self.fields["states"] = torch.zeros(len(scribe.states), columns, width, dtype=layout.dtype, device=device)
        self.documents: dict[int, Document] = {}
        self._next = 0

    @property
    def columns(self) -> int:
        """C * n."""
        return self.capacity * self.rows_per_chunk

    @property
    def held(self) -> list[int]:
        """Chunks that hold something, ascending."""
        return sorted(first + step for first, document in self.documents.items() for step in range(len(document.chunks)))

    def add(self, documents: Sequence[Document]) -> None:
        """Write documents of equally many whole chunks over the oldest ones."""
        for document, rows in zip(documents, self.scribe.write_documents(documents), strict=True):
            count = len(document.chunks)
            if self._next + count > self.capacity:
                self._next = 0
            place = range(self._next, self._next + count)
            for first, old in list(self.documents.items()):
                if first < place.stop and place.start < first + len(old.chunks):
                    del self.documents[first]
            columns = slice(place.start * self.rows_per_chunk, place.stop * self.rows_per_chunk)
            for name, value in rows.items():
                self.fields[name][:, columns] = value.to(self.device)
            self.documents[place.start] = document
            self._next = place.stop

    def state(self) -> dict[str, Any]:
        """Everything, for a checkpoint."""
        documents = [[first, [list(chunk) for chunk in one.chunks], list(one.rest)] for first, one in self.documents.items()]
        return {"next": self._next, "documents": documents, "fields": dict(self.fields)}

    def load_state(self, state: dict[str, Any]) -> None:
        """What ``state`` gave."""
        self._next = int(state["next"])
        self.documents = {
            int(first): Document(tuple(tuple(chunk) for chunk in chunks), tuple(rest))
            for first, chunks, rest in state["documents"]
        }
        for name, value in state["fields"].items():
            self.fields[name].copy_(value)
