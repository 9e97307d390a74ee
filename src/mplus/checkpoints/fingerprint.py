"""Short identities of weights, of a decoder's settings and of a tokenizer. Knows nothing of what they are compared for."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

SAMPLES = 1024
SETTINGS = (
    "model_type hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size hidden_act "
    "rms_norm_eps attention_bias mlp_bias"
).split()
"""Fields of a config that decide what weights compute, beside those that take a word to read; tied heads show in the weights."""
ROTARY_DEFAULTS = {"rope_type": "default"}
PROBE = (
    "The caf\u00e9's na\u00efve \ufb01le: it's 1,234.56 EUR, isn't it?  TWO spaces,\ttab\r\nand CamelCase_words!!",
    " lead #hash @you http://a.b/c?d=e&f=1 and trail ",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 e\u0301 \u00c5 \u2126 \uff21\uff22 \U0001f600\u200d \u00bd",
    "def f(x):\n    return x**2  # \u03c0\n\n\n",
)
"""Texts whose ids tell normalisers and ways of cutting apart."""

_tokenizers: weakref.WeakKeyDictionary[Any, tuple[int, str]] = weakref.WeakKeyDictionary()


def fingerprint(tensors: Mapping[str, Tensor], *, note: str = "") -> str:
    """SHA-256 over `note` and names, shapes and up to 1,024 evenly spaced values (rounded to bfloat16) of every tensor."""
    digest = hashlib.sha256(note.encode())
    for name in sorted(tensors):
        flat = tensors[name].detach().flatten()
        step = max(1, flat.numel() // SAMPLES)
        sample = flat[::step][:SAMPLES].to(torch.bfloat16).cpu().contiguous().view(torch.int16)
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def decoder_settings(config: Any) -> dict[str, Any]:
    """The settings of a decoder that decide what its weights compute, as plain JSON values; the same in every version of transformers.

    Plain, so that a difference can be named. Not among them: positions (unless the rotary type uses them), token ids, dropout.
    """
    found = {name: getattr(config, name) for name in SETTINGS if getattr(config, name, None) is not None}
    heads = int(config.num_attention_heads)
    found["head_dim"] = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    rotary = dict(getattr(config, "rope_parameters", None) or {})
    if rotary.get("partial_rotary_factor") == 1.0:  # all of a key turns: some versions note it, some do not
        del rotary["partial_rotary_factor"]
    found.update({f"rotary.{name}": value for name, value in {**ROTARY_DEFAULTS, **rotary}.items() if value is not None})
    if found["rotary.rope_type"] not in ("default", "linear"):
        found["max_position_embeddings"] = config.max_position_embeddings
    windows = getattr(config, "layer_types", None) or []
    if "sliding_attention" in windows or config.model_type == "mistral":
        found["sliding_window"] = getattr(config, "sliding_window", None)
    if "sliding_attention" in windows:
        found["layer_types"] = list(windows)
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def tokenizer_print(tokenizer: Any) -> str | None:
    """SHA-256 over vocabulary, added tokens, merges, and the ids of a few texts; None without a tokenizer.

    The chat template is not among them: it shapes questions, not what a memory holds, and a delta brings its own.
    """
    if tokenizer is None:
        return None
    try:
        held = _tokenizers.get(tokenizer)
        if held is not None and held[0] == len(tokenizer):
            return held[1]
    except TypeError:  # no length, or nothing that can be referred to weakly
        held = None
    digest = hashlib.sha256(json.dumps(_tokenizer_parts(tokenizer), ensure_ascii=True, sort_keys=True).encode()).hexdigest()
    with suppress(TypeError):
        _tokenizers[tokenizer] = (len(tokenizer), digest)
    return digest


def _tokenizer_parts(tokenizer: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "ids": [list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) for text in PROBE]
    }
    if hasattr(tokenizer, "get_vocab"):
        parts["vocabulary"] = sorted(tokenizer.get_vocab().items(), key=lambda pair: (pair[1], pair[0]))
    added = getattr(tokenizer, "added_tokens_decoder", {})
    parts["added"] = [
        [number, str(token), *(bool(getattr(token, flag, False)) for flag in ("lstrip", "rstrip", "single_word", "special"))]
        for number, token in sorted(added.items())
    ]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        merges = rules.get("model", {}).get("merges") or []
        if rules.get("normalizer") is not None:  # a rule for few signs may touch none of the texts
            parts["normaliser"] = rules["normalizer"]
        parts["merges"] = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return parts
