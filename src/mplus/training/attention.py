"""Attention for training on a CPU: plain grouped matmuls. Knows nothing of memory.

The fused CPU kernel's backward is several times slower at small heads (measured, DESIGN section 2 and RECIPE section 5), and
transformers' eager form copies K and V once per query head. Registered through transformers' own interface, never by patching.

Legend: B rows, H heads, G kv heads, T queries, S keys, E head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

NAME = "mplus_grouped"


def register() -> str:
    """Make the form known to transformers; returns the name for ``set_attn_implementation``."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **unused: Any
) -> tuple[Tensor, None]:
    """Softmax attention of queries [B, H, T, E] over keys and values [B, G, S, E], in their own number type."""
    rows, heads, tokens, width = query.shape
    groups, seen = key.shape[1], key.shape[2]
    per_group = heads // groups
    scores = torch.matmul((query * scaling).reshape(rows, groups, per_group * tokens, width), key.transpose(-1, -2))
    scores = scores.view(rows, groups, per_group, tokens, seen)
    if attention_mask is not None:
        scores = scores + attention_mask[:, :, None, :, :seen].to(scores.dtype)
    chance = scores.softmax(-1).view(rows, groups, per_group * tokens, seen)
    return torch.matmul(chance, value).view(rows, heads, tokens, width).transpose(1, 2), None
