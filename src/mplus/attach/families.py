"""Decoder families memory can be attached to, and the few parts of them it touches. Knows no memory.

Legend: B batch, T tokens, D width, H kv heads, E head width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mplus.errors import UnsupportedModelError

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3")
"""``config.model_type`` of the supported families: pre-norm blocks with half-split rotary keys."""


class Decoder:
    """A view of one causal language model: its layers, norms, projections and rotary table.

    Args:
        model: an unmodified ``...ForCausalLM``.

    Raises:
        UnsupportedModelError: another architecture.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        kind = getattr(model.config, "model_type", type(model).__name__)
        if kind not in SUPPORTED or not hasattr(model, "lm_head"):
            raise UnsupportedModelError(
                f"memory cannot be attached to {kind!r} ({type(model).__name__}); supported causal language models: {', '.join(SUPPORTED)}"
            )
        self.model = model
        self.config: Any = model.config
        self.body: Any = cast(Any, model).model
        self.layers = list(self.body.layers)
        self.depth = len(self.layers)
        self.width = int(self.config.hidden_size)
        attention = self.layers[0].self_attn
        self.head_width = int(attention.head_dim)
        self.kv_heads = int(self.config.num_key_value_heads)
        self._key_value_weights: list[Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Where the embeddings live."""
        return cast(Tensor, self.body.embed_tokens.weight).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return cast(Tensor, self.body.embed_tokens.weight).dtype

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding table."""
        return int(self.body.embed_tokens.num_embeddings)

    @property
    def positions(self) -> int:
        """How many positions a row may have: the trained range, or the sliding window where one is on."""
        limit = int(self.config.max_position_embeddings)
        windows = "sliding_attention" in (getattr(self.config, "layer_types", None) or []) or self.config.model_type == "mistral"
        window = getattr(self.config, "sliding_window", None) if windows else None
        return limit if window is None else min(limit, int(window))

    def attention(self, layer: int) -> nn.Module:
        """The attention module of a layer."""
        return cast(nn.Module, self.layers[layer].self_attn)

    def normed(self, layer: int, hidden: Tensor) -> Tensor:
        """Hidden states as the layer's attention sees them: through its input norm."""
        return cast(Tensor, self.layers[layer].input_layernorm(hidden))

    def key_value_weights(self) -> list[Tensor]:
        """The base's weights behind K and V of all layers."""
        if self._key_value_weights is None:
            self._key_value_weights = [
                weight
                for layer in self.layers
                for part in (layer.input_layernorm, layer.self_attn.k_proj, layer.self_attn.v_proj)
                for name, weight in part.named_parameters()
                if ".lora_" not in name and not name.startswith("lora_")
            ]
        return self._key_value_weights

    def key_source(self, layer: int) -> nn.Module:
        """The module whose output is K before rotation, [B, T, H*E] or [B, T, H, E]."""
        attention = self.layers[layer].self_attn
        return cast(nn.Module, getattr(attention, "k_norm", None) or attention.k_proj)

    def value_source(self, layer: int) -> nn.Module:
        """The module whose output is V, [B, T, H*E]."""
        return cast(nn.Module, self.layers[layer].self_attn.v_proj)

    def as_heads(self, flat: Tensor) -> Tensor:
        """[..., T, H*E] or [..., T, H, E] to [..., T, H, E]."""
        return (
            flat
            if flat.shape[-1] == self.head_width and flat.shape[-2] == self.kv_heads
            else flat.unflatten(-1, (self.kv_heads, -1))
        )

    def project(self, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """K before rotation and V, each [..., n, H, E], of hidden states [..., n, D], with whatever adapter is on."""
        attention = self.layers[layer].self_attn
        normed = self.normed(layer, hidden)
        keys = self.as_heads(attention.k_proj(normed))
        if getattr(attention, "k_norm", None) is not None:
            keys = attention.k_norm(keys)
        return keys, self.as_heads(attention.v_proj(normed))

    def rotation(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, [*positions.shape, E], of positions [..., P] in the type of `like`."""
        flat = positions.reshape(1, -1).to(like.device)
        cos, sin = self.body.rotary_emb(like, flat)
        return cos.view(*positions.shape, -1), sin.view(*positions.shape, -1)


def rotate(keys: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotary embedding of keys [..., P, H, E] by cos, sin [..., P, E]."""
    first, second = keys.chunk(2, -1)
    return keys * cos.unsqueeze(-2) + torch.cat([-second, first], -1) * sin.unsqueeze(-2)


def rotate_into(out: Tensor, keys: Tensor, cos: Tensor, sin: Tensor) -> None:
    """``rotate``, written to `out` without a table between.

    Args:
        out, keys: [..., P, E], which must not overlap.
        cos, sin: [P, E].
    """
    half = keys.shape[-1] // 2
    first, second = keys[..., :half], keys[..., half:]
    torch.mul(first, cos[..., :half], out=out[..., :half]).addcmul_(second, sin[..., :half], value=-1)
    torch.mul(second, cos[..., half:], out=out[..., half:]).addcmul_(first, sin[..., half:])


def round_rotary_to_bfloat16(decoder: Decoder) -> None:
    """Round the rotary frequencies to bfloat16 and go on computing in float32 (how the published 8B model was run)."""
    rotary = decoder.body.rotary_emb
    rotary.inv_freq = rotary.inv_freq.to(torch.bfloat16).float()
    if hasattr(rotary, "original_inv_freq"):
        rotary.original_inv_freq = rotary.inv_freq.clone()
