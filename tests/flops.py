"""Operations of a read, a decoded token and a write, as formulas of a model's shape: what counted work is compared with.

Legend: T prompt or text tokens, N short-term tokens, k long-term tokens read, M held, D width, R key width, K new per write.
"""

from __future__ import annotations

from benchmarks.cost_model import Shape
from mplus.settings import Geometry


def key_flops(shape: Shape, tokens: int) -> int:
    """Search keys or queries of `tokens` tokens in one layer: D -> 2 R -> R."""
    return tokens * 2 * (shape.width * 2 * shape.key_width + 2 * shape.key_width * shape.key_width)


def read_flops(shape: Shape, geometry: Geometry, *, query: int, short: int, found: int, held: int, hidden: bool) -> int:
    """One first token: T = `query`, N = `short`, k = `found`, M = `held`; `hidden`: rows are projected anew in this read."""
    search = key_flops(shape, query) + 2 * query * held * shape.key_width if held and shape.key_width else 0
    per_layer = (
        shape.kv_flops(1 + query, shape.read_rank)
        + (shape.kv_flops(short + found, _memory_rank(shape, geometry)) if hidden else 0)
        + shape.rest_flops(query, shape.read_rank)
        + shape.attention_flops(query, 1 + found + short + query)
        + search
    )
    return shape.layers * per_layer + shape.head_flops(1)


def decode_flops(shape: Shape, seen: int) -> int:
    """One token that attends to `seen` tokens, itself included."""
    rank = shape.read_rank
    layer = shape.kv_flops(1, rank) + shape.rest_flops(1, rank) + shape.attention_flops(1, seen)
    return shape.layers * layer + shape.head_flops(1)


def write_flops(shape: Shape, geometry: Geometry, *, text: int, tail: int, hidden: bool, short: bool) -> int:
    """One write of a chunk of `text` tokens that sees `tail` older ones, output tap.

    Args:
        hidden: rows stay hidden states; else the K new ones are projected once, for every later read.
        short: the last layer's rows that are no memory are left out and there are no logits; else all T logits are made.
    """
    new, rank, seen = min(geometry.sizes.new_tokens, text), shape.write_rank, 1 + tail + text
    full = shape.kv_flops(seen, rank) + shape.rest_flops(text, rank) + shape.attention_flops(text, seen)
    last = shape.kv_flops(seen, rank) + shape.rest_flops(new, rank) + shape.attention_flops(new, seen)
    rows = key_flops(shape, new) + (0 if hidden else shape.kv_flops(new, _memory_rank(shape, geometry)))
    passes = (shape.layers - 1) * full + last if short else shape.layers * full + shape.head_flops(text)
    return passes + shape.layers * rows


def _memory_rank(shape: Shape, geometry: Geometry) -> int:
    return shape.read_rank if geometry.read.memory_projection == "read" else shape.write_rank
