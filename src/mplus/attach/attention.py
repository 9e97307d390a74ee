"""Attention on a CPU without a copy of keys and values per query head. Knows nothing of memory.

Where a mask is given, transformers' ``sdpa`` repeats K and V for every query head of a group, because two GPU kernels need
that; the CPU kernel does not. ``mplus bench speed`` says what the copies cost (the line without grouped attention). Registered
through transformers' own interface and switched on for our passes only, so that everything else finds the model as it was opened.

Legend: B rows, H heads, G kv heads, T queries, S keys, E head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from mplus.attach.families import Decoder

NAME = "mplus_sdpa"
STOCK = "sdpa"
TRAINING = "mplus_grouped"


def grouped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention of queries [B, H, T, E] over keys and values [B, G, S, E], as [B, T, H, E]."""
    rows, heads, tokens, width = query.shape
    if is_causal is None:
        is_causal = tokens > 1 and attention_mask is None and getattr(module, "is_causal", True)
    folds = tokens == 1 and query.dtype != torch.float32 and heads > key.shape[1]
    if (
        folds
    ):  # heads of a group as its queries: the same numbers, and the kernel is many times slower for single queries of 16 bits
        query = query.view(rows, key.shape[1], heads // key.shape[1], width)
    out = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling, is_causal=is_causal, enable_gqa=not folds
    )
    return (out.view(rows, 1, heads, width) if folds else out.transpose(1, 2).contiguous()), None


def additive_mask(*args: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor | None:
    """The mask of ``sdpa`` as numbers to add, made once for all layers: the CPU kernel would make them in every layer."""
    mask: Tensor | None = sdpa_mask(*args, dtype=dtype, **kwargs)
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, float("-inf"))


@contextmanager
def grouped_on_cpu(decoder: Decoder) -> Iterator[None]:
    """Have a decoder that computes on a CPU with stock ``sdpa`` attend this way; any other choice of its owner stays."""
    config = decoder.config
    if config._attn_implementation != STOCK or decoder.device.type != "cpu" or torch.is_grad_enabled():
        yield
        return
    AttentionInterface.register(NAME, grouped)
    AttentionMaskInterface.register(NAME, additive_mask)
    mine = object()
    try:
        decoder.grouped_by = mine
        config._attn_implementation = NAME
        yield
    finally:
        if decoder.grouped_by is mine:  # else somebody has swept, and what is on now is not ours
            owners_attention(decoder)


def owners_attention(decoder: Decoder) -> bool:
    """Give a decoder the attention back that its owner chose; whether it had ours."""
    decoder.grouped_by = None
    if decoder.config._attn_implementation != NAME:
        return False
    decoder.config._attn_implementation = STOCK
    return True


def register_training() -> str:
    """Make ``matmul_attention`` known to transformers; returns its name for ``set_attn_implementation``."""
    AttentionInterface.register(TRAINING, matmul_attention)
    AttentionMaskInterface.register(TRAINING, eager_mask)
    return TRAINING


def matmul_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **unused: Any
) -> tuple[Tensor, None]:
    """Training attention for CPUs: queries [B, H, T, E] over keys and values [B, G, S, E], by grouped matmuls in their number type.

    The fused CPU kernel's backward is several times slower at small heads (measured, DESIGN section 2 and RECIPE section 5), and
    transformers' eager form copies K and V once per query head.
    """
    rows, heads, tokens, width = query.shape
    groups, seen = key.shape[1], key.shape[2]
    per_group = heads // groups
    scores = torch.matmul((query * scaling).reshape(rows, groups, per_group * tokens, width), key.transpose(-1, -2))
    scores = scores.view(rows, groups, per_group, tokens, seen)
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, None, :, :seen].to(scores.dtype)
    chance = scores.softmax(-1).view(rows, groups, per_group * tokens, seen)
    return torch.matmul(chance, value).view(rows, heads, tokens, width).transpose(1, 2), None
