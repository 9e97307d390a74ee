"""Layout of the numbers kept per memory token. Knows nothing of models or of where rows live.

Legend: L layers, n tokens, H kv heads, E head width, D model width, R retriever key width.

``kv``      keys [L, n, H, E] before rotation, values [L, n, H, E]
``hidden``  hidden [L, n, D]
Both may carry ``search``: [L, n, R] when each layer finds its own tokens, [1, n, R] when layers vote; [1, n, r, R] where a row stands for r
text tokens (``mplus.memory.pooling``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mplus.settings import MemoryFormat

Rows = dict[str, Tensor]
"""Field name to tensor [G, n, ...], where G is the number of layers (1 for a shared search key)."""


@dataclass(frozen=True, kw_only=True)
class RowLayout:
    """Names, shapes and types of one memory token's fields.

    Attributes:
        format: "kv" or "hidden".
        layers: L.
        fields: field name to its shape without the token dimension, e.g. ``{"keys": (H, E)}``.
        search_groups: leading dimension of ``search``; L or 1, 0 when nothing is ever searched.
    """

    format: MemoryFormat
    layers: int
    fields: Mapping[str, tuple[int, ...]]
    search_groups: int
    dtype: torch.dtype
    device: torch.device

    def groups(self, field: str) -> int:
        """Leading dimension of a field: L, or the number of search groups."""
        return self.search_groups if field == "search" else self.layers

    def empty(self, tokens: int, device: torch.device | None = None) -> Rows:
        """Uninitialised rows for `tokens` tokens."""
        return {
            name: torch.empty(self.groups(name), tokens, *shape, dtype=self.dtype, device=device or self.device)
            for name, shape in self.fields.items()
        }

    @property
    def bytes_per_token(self) -> int:
        """Bytes one memory token takes over all layers."""
        numbers = sum(self.groups(name) * torch.Size(shape).numel() for name, shape in self.fields.items())
        return numbers * torch.empty((), dtype=self.dtype).element_size()


@dataclass
class EncodedChunk:
    """What one write pass produced: new memory tokens, not yet part of any memory.

    Attributes:
        rows: the new tokens' fields in a memory's layout, [G, n, ...].
        text_tokens: how many tokens of text went in.
        hidden: [L, n, D] hidden states, kept where the geometry needs them later; else None.
        initial: True when this is the first write of a memory that has no pool yet and whose pool must be tiled from it.
        logits: [T, V] next-token logits of the text, when asked for.
        layer_input: text hidden states entering each layer, L tensors [T, D], when asked for.
        ids: the tokens that went in, where they are known.
        behind: content address of the text of its source that it saw ("": none); None: not known.
    """

    rows: Rows
    text_tokens: int
    hidden: Tensor | None = None
    initial: bool = False
    logits: Tensor | None = None
    layer_input: list[Tensor] | None = None
    ids: tuple[int, ...] | None = None
    behind: str | None = None

    @property
    def tokens(self) -> int:
        """n, the number of new memory tokens."""
        return next(iter(self.rows.values())).shape[1]


def rows_key(rows: Rows) -> str:
    """Content address of rows whose text, or what it saw, is not known: 32 hexadecimal digits as a ledger has them."""
    digest = hashlib.sha256()
    for name in sorted(rows):
        digest.update(rows[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


class ChunkToEncode(NamedTuple):
    """A chunk of text that a memory wants encoded.

    Attributes:
        ids: token ids.
        tail: the newest tokens that it is to see; None: those of the memory.
    """

    ids: list[int]
    tail: EncodedChunk | None
