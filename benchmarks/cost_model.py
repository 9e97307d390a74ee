"""Operations and bytes of a read, a decoded token and a write, as formulas. Knows shapes, no tensors.

Legend: T tokens that run, S tokens they attend to, L layers, D width, H query heads, G kv heads, E head width, F inner width of the
feed-forward part, V vocabulary, r LoRA rank, R key width, N short-term tokens, k long-term tokens read, M held, K new per write.

Two operations for each multiply-add; attention counts all T x S products, as torch's counter does. Norms, rotation, softmax and
activations are left out: they are operations of order T D, and their cost is moving bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mplus.model import MPlusModel
from mplus.settings import Geometry


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the formulas need to know of a model."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    inner: int
    vocabulary: int
    read_rank: int
    write_rank: int
    key_width: int
    itemsize: int

    @classmethod
    def of(cls, model: MPlusModel) -> Shape:
        """The shape of an opened model; a retriever shared by all layers is not in the formulas (key width 0)."""
        decoder = model.attached.decoder
        config: Any = decoder.config
        per_layer = model.geometry.retrieval == "per_layer" and model.attached.retriever is not None
        configs = model.checkpoint.adapter_configs
        return cls(
            layers=decoder.depth,
            width=decoder.width,
            heads=int(config.num_attention_heads),
            kv_heads=decoder.kv_heads,
            head_width=decoder.head_width,
            inner=int(config.intermediate_size),
            vocabulary=decoder.vocabulary,
            read_rank=int(configs.get("read", {}).get("r", 0)),
            write_rank=int(configs.get("write", {}).get("r", 0)),
            key_width=int(model.attached.retriever.key_width or 0) if per_layer and model.attached.retriever is not None else 0,
            itemsize=decoder.dtype.itemsize,
        )

    # -- operations ------------------------------------------------------------------------------------------------

    def kv_flops(self, tokens: int, rank: int) -> int:
        """K and V of `tokens` tokens in one layer."""
        out = self.kv_heads * self.head_width
        return tokens * 2 * (2 * self.width * out + 2 * rank * (self.width + out))

    def rest_flops(self, tokens: int, rank: int) -> int:
        """Queries, attention's output and the feed-forward part of `tokens` tokens in one layer."""
        out = self.heads * self.head_width
        base = 2 * self.width * out + 3 * self.width * self.inner
        lora = rank * (self.width + out) + 3 * rank * (self.width + self.inner)
        return tokens * 2 * (base + lora)

    def attention_flops(self, tokens: int, seen: int) -> int:
        """Scores and weighted sum in one layer."""
        return 4 * tokens * seen * self.heads * self.head_width

    def key_flops(self, tokens: int) -> int:
        """Search keys or queries of `tokens` tokens in one layer: D -> 2 R -> R."""
        return tokens * 2 * (self.width * 2 * self.key_width + 2 * self.key_width * self.key_width)

    def read_flops(self, geometry: Geometry, *, query: int, short: int, found: int, held: int, hidden: bool) -> int:
        """One first token: T = `query`, N = `short`, k = `found`, M = `held`; `hidden`: rows are projected anew in this read."""
        search = self.key_flops(query) + 2 * query * held * self.key_width if held and self.key_width else 0
        per_layer = (
            self.kv_flops(1 + query, self.read_rank)
            + (self.kv_flops(short + found, self._memory_rank(geometry)) if hidden else 0)
            + self.rest_flops(query, self.read_rank)
            + self.attention_flops(query, 1 + found + short + query)
            + search
        )
        return self.layers * per_layer + self.head_flops(1)

    def decode_flops(self, seen: int) -> int:
        """One token that attends to `seen` tokens, itself included."""
        rank = self.read_rank
        layer = self.kv_flops(1, rank) + self.rest_flops(1, rank) + self.attention_flops(1, seen)
        return self.layers * layer + self.head_flops(1)

    def write_flops(self, geometry: Geometry, *, text: int, tail: int, hidden: bool, short: bool) -> int:
        """One write of a chunk of `text` tokens that sees `tail` older ones, output tap.

        Args:
            hidden: rows stay hidden states; else the K new ones are projected once, for every later read.
            short: the last layer's rows that are no memory are left out and there are no logits; else all T logits are made.
        """
        new = min(geometry.new_tokens, text)
        rank = self.write_rank
        seen = 1 + tail + text
        full = self.kv_flops(1 + tail + text, rank) + self.rest_flops(text, rank) + self.attention_flops(text, seen)
        last = self.kv_flops(1 + tail + text, rank) + self.rest_flops(new, rank) + self.attention_flops(new, seen)
        made = self.key_flops(new) + (0 if hidden else self.kv_flops(new, self._memory_rank(geometry)))
        passes = (self.layers - 1) * full + last if short else self.layers * full + self.head_flops(text)
        return passes + self.layers * made

    def head_flops(self, tokens: int) -> int:
        """Logits."""
        return 2 * tokens * self.width * self.vocabulary

    def context_flops(self, text: int, query: int) -> int:
        """Plain transformers: the first token behind `text` and `query` tokens."""
        total = text + query
        layer = self.kv_flops(total, 0) + self.rest_flops(total, 0) + self.attention_flops(total, total)
        return self.layers * layer + self.head_flops(1)

    def _memory_rank(self, geometry: Geometry) -> int:
        return self.read_rank if geometry.memory_projection == "read" else self.write_rank

    # -- bytes -----------------------------------------------------------------------------------------------------

    @property
    def weight_bytes(self) -> int:
        """All weights of the layers and the head, read once by any pass."""
        out, kv = self.heads * self.head_width, self.kv_heads * self.head_width
        layer = 2 * self.width * out + 2 * self.width * kv + 3 * self.width * self.inner
        return (self.layers * layer + self.width * self.vocabulary) * self.itemsize

    def prefix_bytes(self, tokens: int) -> int:
        """K and V of `tokens` tokens in all layers, in the model's type."""
        return self.layers * tokens * 2 * self.kv_heads * self.head_width * self.itemsize

    def least_read_bytes(self, *, short: int, found: int, held: int, search_itemsize: int) -> int:
        """What a first token cannot do without: weights, every search key, the found rows gathered, the prefix attended to."""
        return (
            self.weight_bytes
            + self.layers * held * self.key_width * search_itemsize
            + 3 * self.prefix_bytes(found)  # read on the shelf, written into the prefix, attended to
            + self.prefix_bytes(short)
        )

    def least_decode_bytes(self, seen: int) -> int:
        """What one decoded token cannot do without: weights and the prefix, each read once."""
        return self.weight_bytes + self.prefix_bytes(seen)

    def least_write_bytes(self, geometry: Geometry) -> int:
        """What one write cannot do without: weights, and K tokens leaving and K coming."""
        return self.weight_bytes + 4 * self.prefix_bytes(geometry.new_tokens)
