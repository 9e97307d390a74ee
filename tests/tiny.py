"""The smallest real models: two layers, random weights, float32. And what a memory holds, as plain tensors.

Legend: L layers, D width, T tokens.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mplus import Geometry, Memory, MPlusModel
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch

VOCABULARY = 101
FAMILIES: dict[str, tuple[type[Any], type[Any]]] = {
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def tiny_decoder(
    family: str = "llama", *, layers: int = 2, positions: int = 512, vocabulary: int = VOCABULARY, **config_fields: Any
) -> PreTrainedModel:
    """A random decoder whose norms and biases are random too, so that leaving one out shows."""
    config_class, model_class = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(7)
        fields: dict[str, Any] = {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": positions,
            "initializer_range": 0.25,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        config = config_class(**{**fields, **config_fields})
        model: PreTrainedModel = model_class(config).eval()
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "norm" in name or name.endswith("bias"):
                    value.add_(torch.randn_like(value) * 0.2)
    return model


def tiny_geometry(**changed: Any) -> Geometry:
    """Shared drops and retrieval, input tap: 16 short-term tokens, chunks of 8, 2 blocks of 4 read."""
    fields: dict[str, Any] = {
        "new_tokens": 8,
        "stm_tokens": 16,
        "ltm_read_tokens": 8,
        "ltm_capacity": 400,
        "chunk_tokens": 8,
        "min_write_tokens": 2,
        "block_tokens": 4,
        "neighbour_blocks": 0,
    }
    return Geometry(**{**fields, **changed})


SETUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shared": ({"neighbour_blocks": 1}, {"read_lora": {"r": 2, "lora_alpha": 4}}),
    "in_text_order": (
        {"neighbour_blocks": 1, "ltm_read_tokens": 16, "read_order": "text"},
        {"read_lora": {"r": 2, "lora_alpha": 4}},
    ),
    "best_last": (
        {"neighbour_blocks": 1, "ltm_read_tokens": 16, "read_order": "score"},
        {"read_lora": {"r": 2, "lora_alpha": 4}},
    ),
    "recent": (
        {
            "stm_tokens": 16,
            "ltm_read_tokens": 16,
            "read_order": "score",
            "recent_tokens": 8,
        },
        {"read_lora": {"r": 2, "lora_alpha": 4}},
    ),
    "per_layer": ({"drop": "per_layer", "retrieval": "per_layer", "block_tokens": 1}, {"key_width": 6}),
    "mixed": (
        {"drop": "shared", "retrieval": "per_layer", "memory_projection": "read"},
        {"key_width": 6, "read_lora": {"r": 2, "lora_alpha": 4}},
    ),
    "output": (
        {
            "drop": "per_layer",
            "retrieval": "per_layer",
            "block_tokens": 1,
            "write_tap": "output",
            "chunk_tokens": 12,
            "memory_projection": "read",
            "stm_ages": "frozen",
        },
        {"key_width": 6, "read_lora": {"r": 2, "lora_alpha": 4}, "write_lora": {"r": 3, "lora_alpha": 3}},
    ),
}
"""Name to (geometry fields, memory parts): the ways a model is adapted here and the way it was published."""


def tiny_model(
    family: str = "llama",
    setup: str = "shared",
    *,
    attention: str | None = None,
    config: dict[str, Any] | None = None,
    **changed: Any,
) -> MPlusModel:
    """A tiny decoder with memory parts; adapters and position vector are random instead of zero.

    Args:
        config: fields of the decoder's configuration.
        changed: fields of the geometry.
    """
    fields, parts = SETUPS[setup]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        model = MPlusModel.from_base(
            tiny_decoder(family, **(config or {})),
            geometry=tiny_geometry(**{**fields, **changed}),
            attn_implementation=attention,
            **parts,
        )
        with torch.no_grad():
            for name, value in model.parts.decoder.model.named_parameters():
                if ".lora_B." in name:
                    value.copy_(torch.randn_like(value) * 0.3)
        if setup == "output":
            model.parts.position = torch.randn(model.parts.decoder.width) * 0.3
    return model


def ids(count: int, seed: int = 0) -> Tensor:
    """Random token ids [T], never the special ones; the first 98 all differ, so that no two rows score the same."""
    generator = torch.Generator().manual_seed(seed)
    rounds = [torch.randperm(VOCABULARY - 3, generator=generator) + 3 for _ in range(1 + count // (VOCABULARY - 3))]
    return torch.cat(rounds)[:count]


def filled(model: MPlusModel, tokens: int = 61, *, seed: int = 3, text_seed: int = 1, **options: Any) -> Memory:
    """A memory that has read `tokens` random tokens, more than its short-term memory holds unless `tokens` is small."""
    memory = model.new_memory(seed=seed, **options)
    memory.write(ids(tokens, text_seed))
    return memory


def search_from(monkeypatch: pytest.MonkeyPatch, rows: int, *, candidates: int = 1) -> None:
    """Have first-stage indexes from so many rows on, which are taken in so many at a time."""
    for kind in (Int8Keys, PcaSketch):
        monkeypatch.setattr(kind, "group_rows", rows)
        monkeypatch.setattr(kind, "exact_below", rows)
        monkeypatch.setattr(kind, "candidates_per_token", candidates)


def contents(memory: Memory) -> dict[str, Any]:
    """Everything a memory holds, copied."""
    placement, long_term = memory.placement, memory.long_term
    found: dict[str, Any] = {
        "births": placement.births.clone(),
        "rows": placement.rows.clone(),
        "generator": placement.generator.clone(),
        "tail": None if memory.tail is None else memory.tail.clone(),
        "counters": (memory.now, memory.tokens_read, memory.initialised, placement.writes_since_merge),
        "waiting": list(long_term.waiting),
        "pending": list(memory.pending),
        "chunks": [chunk._replace(at=None) for chunk in memory.ledger.chunks],
    }
    found.update({f"tail of {name!r}": tail.clone() for name, tail in memory.state.tails.items()})
    found.update({f"stm.{name}": rows.clone() for name, rows in memory.short_term.at_slots(memory.short_term.order).items()})
    for group in range(long_term.groups):
        found[f"ltm.{group}.births"] = long_term.births(group).clone()
        found[f"ltm.{group}.rows"] = long_term.rows(group).clone()
        frequency = long_term.frequencies(group)
        found[f"ltm.{group}.frequency"] = torch.empty(0) if frequency is None else frequency.clone()
        found.update({f"ltm.{group}.{name}": long_term.column(group, name).clone() for name in memory.layout.fields})
    return found


def same_contents(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(_equal(first[name], second[name]) for name in first)


def _equal(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, Tensor) and isinstance(second, Tensor) else bool(first == second)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer with one token per byte (a space is a token of its own), 256 in all, and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template)


def text_model(*, positions: int = 512, **changed: Any) -> MPlusModel:
    """A tiny model that reads text, one token per byte; chunks of 32."""
    fields = {"new_tokens": 32, "chunk_tokens": 32, "stm_tokens": 64, "ltm_read_tokens": 16, "min_write_tokens": 8}
    geometry = tiny_geometry(**{**fields, **changed})
    return MPlusModel.from_base(tiny_decoder(vocabulary=256, positions=positions), geometry=geometry, tokenizer=byte_tokenizer())
