"""Decoder families memory can be attached to, and the few parts of them it touches. Knows no memory.

Legend: B batch, T tokens, D width, H kv heads, E head width.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mplus.errors import UnsupportedModelError

if TYPE_CHECKING:
    from mplus.attach.hooks import Hooks

SUPPORTED = ("llama", "mistral", "qwen2", "qwen3", "gemma")
"""``config.model_type`` of the supported families: pre-norm blocks with half-split rotary keys."""

ROTARY = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")
"""``rope_type`` of the rotary tables for which tests/contract/test_rotary.py shows that a read is exact."""

_hooked: weakref.WeakKeyDictionary[PreTrainedModel, list[Hooks]] = weakref.WeakKeyDictionary()
"""Sets of hooks that passes have put on a base, by whichever of the models that share it."""


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
        self._check_causal()
        self._check_rotary()
        self._check_not_compiled()
        self.hooked: list[Hooks] = _hooked.setdefault(model, [])
        """Sets of hooks that are on now; see ``sweep``."""
        self.grouped_by: object | None = None
        """Token of the pass that switched on the attention of ``attention.py``; None: it is off."""
        self._key_value_weights: list[Tensor] | None = None

    def _check_causal(self) -> None:
        """Raise ``UnsupportedModelError`` where a token sees later ones: rows would not be what a read shows."""
        if getattr(self.config, "use_bidirectional_attention", None):
            raise UnsupportedModelError(
                f"{type(self.model).__name__} lets each token see later ones (use_bidirectional_attention); memory can be attached to causal "
                "language models"
            )

    def _check_not_compiled(self) -> None:
        """Raise ``UnsupportedModelError`` where a part was compiled: compiled code does not see hooks that are put on later."""
        for name, module in self.model.named_modules():
            if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
                part = type(self.model).__name__ + (f".{name}" if name else "")
                raise UnsupportedModelError(
                    f"{part} was compiled, and compiled code would pass memory by without a word; attach memory to the model as it was "
                    "before torch.compile"
                )

    def _check_rotary(self) -> None:
        """Raise ``UnsupportedModelError`` where a key could not be turned to its place exactly as the decoder does it."""
        rotary = self.body.rotary_emb
        kind = getattr(rotary, "rope_type", "default")
        if kind not in ROTARY:
            raise UnsupportedModelError(
                f"the rotary type {kind!r} of {type(self.model).__name__} is not known here; known types: {', '.join(ROTARY)}"
            )
        turned = 2 * rotary.inv_freq.shape[-1]
        if turned != self.head_width:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} turns {turned} of the {self.head_width} numbers of a key (partial_rotary_factor), which "
                "is not supported; memory can be attached where all of them turn"
            )

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
        """How many positions a row may have; see ``limit``."""
        return self.limit[0]

    @property
    def limit(self) -> tuple[int, str]:
        """How many positions a row may have, and why: the trained range, a sliding window that is on, or the length from which
        rotary type `longrope` turns all keys otherwise, so that a read would not turn them as the writes did.
        """
        found = [(int(self.config.max_position_embeddings), "max_position_embeddings")]
        windows = "sliding_attention" in (getattr(self.config, "layer_types", None) or []) or self.config.model_type == "mistral"
        window = getattr(self.config, "sliding_window", None) if windows else None
        if window is not None:
            found.append((int(window), "its sliding window"))
        if getattr(self.body.rotary_emb, "rope_type", "default") == "longrope":
            short = int(self.config.rope_parameters["original_max_position_embeddings"])
            found.append((short, "where its rotary type 'longrope' changes all frequencies"))
        return min(found, key=lambda pair: pair[0])

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

    def key_source(self, layer: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        """The module whose output is K before rotation, and what makes that [..., T, H, E]."""
        attention = self.layers[layer].self_attn
        norm = getattr(attention, "k_norm", None)
        return (attention.k_proj, self.as_heads) if norm is None else (norm, lambda keys: keys)

    def query_source(self, layer: int) -> nn.Module:
        """The module whose output is Q before rotation, [..., T, heads * E] or [..., T, heads, E]."""
        attention = self.layers[layer].self_attn
        return cast(nn.Module, getattr(attention, "q_norm", None) or attention.q_proj)

    def value_source(self, layer: int) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
        """The module whose output is V, and what makes that [..., T, H, E]."""
        return self.layers[layer].self_attn.v_proj, self.as_heads

    def as_heads(self, flat: Tensor) -> Tensor:
        """[..., H*E], as a projection gives it, to [..., H, E]."""
        heads: Tensor = flat.unflatten(-1, (self.kv_heads, self.head_width))
        return heads

    def project(self, layer: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """K before rotation and V, each [..., n, H, E], of hidden states [..., n, D], with whatever adapter is on."""
        attention = self.layers[layer].self_attn
        normed = self.normed(layer, hidden)
        keys = self.as_heads(attention.k_proj(normed))
        if getattr(attention, "k_norm", None) is not None:
            keys = attention.k_norm(keys)
        return keys, self.as_heads(attention.v_proj(normed))

    def rotation(self, positions: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, [*positions.shape, E], of positions [..., P], where `like` lives and in the type of the weights.

        Inside ``positions`` no rotary type looks at the length of a row, so slots and prompt turn by the same table.
        """
        flat = positions.reshape(1, -1).to(like.device)
        cos, sin = self.body.rotary_emb(like.new_empty(0, dtype=self.dtype), flat)
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
