"""FLOP and byte model: operations and least bytes of the hot paths, as formulas. Knows shapes, no tensors.

Legend: T tokens that run, S tokens they attend to, L layers, D width, H query heads, G kv heads, E head width, F inner width of the
feed-forward part, V vocabulary, r LoRA rank, R key width, K new tokens of a write.

Two operations for each multiply-add; attention counts all T x S products, as torch's counter does. Norms, rotation, softmax and
activations are left out: they are operations of order T D, and their cost is moving bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mplus.model import MPlusModel


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a model, as far as the formulas need them."""

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
        decoder, retriever = model.parts.decoder, model.parts.retriever
        config: Any = decoder.config
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
            key_width=int(retriever.key_width or 0) if not model.geometry.read.is_shared and retriever is not None else 0,
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

    def head_flops(self, tokens: int) -> int:
        """Logits."""
        return 2 * tokens * self.width * self.vocabulary

    def context_flops(self, text: int, query: int) -> int:
        """Plain transformers: the first token behind `text` and `query` tokens."""
        total = text + query
        layer = self.kv_flops(total, 0) + self.rest_flops(total, 0) + self.attention_flops(total, total)
        return self.layers * layer + self.head_flops(1)

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

    def least_read_bytes(self, *, short: int, retrieved: int, held: int, search_itemsize: int) -> int:
        """What a first token cannot do without: weights, every search key, retrieved rows gathered, the prefix attended to."""
        keys = self.layers * held * self.key_width * search_itemsize
        gathered = 3 * self.prefix_bytes(retrieved)  # read in the store, written into the prefix, attended to
        return self.weight_bytes + keys + gathered + self.prefix_bytes(short)

    def least_decode_bytes(self, seen: int) -> int:
        """What one decoded token cannot do without: weights and the prefix, each read once."""
        return self.weight_bytes + self.prefix_bytes(seen)

    def least_write_bytes(self, new: int) -> int:
        """What one write cannot do without: weights, and K tokens leaving and K coming."""
        return self.weight_bytes + 4 * self.prefix_bytes(new)
