"""Chunks encoded in the form training reads them in, a memory token for each text token. Knows models, nothing of samples and losses.

Legend: B chunks of a pass, T tokens of a chunk, n memory tokens of a chunk, L layers, V layers whose states are kept, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from mplus.attach.write_pass import Tail, keeps_write_kv, write_pass
from mplus.memory.pooling import means
from mplus.memory.rows import RowLayout, Rows
from mplus.model import MPlusModel
from mplus.settings import MemoryFormat
from mplus.training.data.document import Document

PASS_CHUNKS = 16  # chunks of one write pass without gradient


class ChunkEncoder:
    """Encodes chunks as rows of keys and values, or of hidden states where the write pass makes no keys and values of a read.

    Args:
        state_layers: ascending; their normalised states, which a retriever is trained on, are kept too.
        memory_format: None: the one that fits.

    Attributes:
        geometry: the model's, without pooling.
        fields: name to (L or V, *shape of a row).
        previous: rows of the last pass of ``stream``.
    """

    def __init__(self, model: MPlusModel, state_layers: tuple[int, ...] = (), memory_format: MemoryFormat | None = None) -> None:
        self.model, self.state_layers = model, state_layers
        self.geometry = model.geometry.changed(tokens_per_row=1)
        self.format: MemoryFormat = memory_format or ("kv" if keeps_write_kv(model.geometry) else "hidden")
        layout = model.writer.layout(self.format, self.geometry.changed(ltm=False))
        fields = {name: shape for name, shape in layout.fields.items() if name != "search"}
        self.layout = RowLayout(
            format=self.format, layers=layout.layers, fields=fields, search_groups=0, dtype=layout.dtype, device=layout.device
        )
        self.fields: dict[str, tuple[int, ...]] = {name: (layout.layers, *shape) for name, shape in fields.items()}
        if state_layers:
            self.fields["states"] = (len(state_layers), model.parts.decoder.width)
        self.previous: Rows | None = None

    @property
    def rows_per_chunk(self) -> int:
        """n, memory tokens of a whole chunk."""
        sizes = self.geometry.sizes
        return min(sizes.new_tokens, sizes.chunk_tokens)

    def encode(self, ids: Tensor, before: Rows | None, *, grad: bool = False, checkpointed: tuple[int, ...] = ()) -> Rows:
        """Fields [B, L or V, n, ...] of chunks [B, T]; ``states`` never carry gradient.

        Args:
            before: rows [B, L, n, ...] that the chunks follow, of which they see the newest K, without gradient.
            checkpointed: layers that keep only their input for the backward pass.
        """
        model, tail = self.model, self._tail(before)
        encoded = write_pass(
            model.parts, self.geometry, self.layout, ids, tail, grad=grad, states=self.state_layers, recompute=checkpointed
        )
        return {name: torch.stack([one.rows[name] for one in encoded]) for name in encoded[0].rows}

    def stream(self, chunks: Sequence[Sequence[int]], ratio: Callable[[], int] = lambda: 1) -> Iterator[Rows]:
        """Rows pass by pass; each chunk follows that of its row in the pass before, as in a stream.

        Where a chunk sees its own source only (``write_context="source"``), every other pass begins sources, behind the neutral opening,
        and the next one goes on with them.

        Args:
            ratio: text tokens that a memory token stands for in what the chunks of a pass see, asked for each pass.
        """
        apart = self.model.geometry.write.context == "source"
        for start in range(0, len(chunks), PASS_CHUNKS):
            ids = torch.tensor(chunks[start : start + PASS_CHUNKS], device=self.model.device)
            before = self.previous
            if before is not None:
                too_few = next(iter(before.values())).shape[0] < len(ids)
                before = None if too_few else {name: rows[: len(ids)] for name, rows in before.items()}
            begins, tokens = before is None, ratio()
            rows = self.encode(ids, self._opening(len(ids), tokens) if apart and begins else _pooled(before, tokens))
            self.previous = without_states(rows) if begins or not apart else None
            yield rows

    def _opening(self, count: int, ratio: int) -> Rows | None:
        """The rows that the first chunk of a source sees, for `count` chunks [B, L, n, ...]; None for a model without a tokenizer."""
        memory = self.model.new_memory(ltm=False, memory_format=self.format, tokens_per_row=ratio)
        opening = self.model.writer.opening(memory)
        rows = {name: opening.rows[name][None].expand(count, *opening.rows[name].shape) for name in self.layout.fields}
        return rows if next(iter(rows.values())).shape[2] else None

    def documents(self, documents: Sequence[Document]) -> list[Rows]:
        """Rows [L or V, chunks * n, ...] of whole documents of equally many whole chunks, without gradient."""
        out: list[Rows] = []
        with torch.no_grad():
            for start in range(0, len(documents), PASS_CHUNKS):
                some = documents[start : start + PASS_CHUNKS]
                rounds: list[Rows] = []
                for chunk in range(len(some[0].chunks)):
                    ids = torch.tensor([one.chunks[chunk] for one in some], device=self.model.device)
                    rounds.append(self.encode(ids, rounds[-1] if rounds else None))
                out += [
                    {name: torch.cat([part[name][row] for part in rounds], 1) for name in rounds[0]} for row in range(len(some))
                ]
        return out

    def _tail(self, rows: Rows | None) -> Tail:
        if rows is None:
            return Tail()
        device, newest = self.model.device, slice(-self.geometry.sizes.new_tokens, None)
        return Tail(**{name: value[:, :, newest].detach().to(device) for name, value in without_states(rows).items()})


def _pooled(rows: Rows | None, ratio: int) -> Rows | None:
    """Rows [B, L, m, ...] of rows [B, L, n, ...] of text tokens."""
    if rows is None or ratio == 1:
        return rows
    return {name: torch.stack([means(one, ratio) for one in value]) for name, value in rows.items()}


def without_states(rows: Rows) -> Rows:
    """The fields that a read uses."""
    return {name: value for name, value in rows.items() if name != "states"}
