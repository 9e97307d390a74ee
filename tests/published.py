"""A tiny checkpoint directory in the form of the published models, random numbers, any tensor to be spoilt.

Legend: L layers, S short-term tokens, D width, R retriever key width, V vocabulary, r LoRA rank.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

LAYERS, WIDTH, HEADS, KV_HEADS, INNER, VOCABULARY, KEY_WIDTH, RANK, NEW = 2, 16, 2, 1, 24, 61, 4, 2, 4


def published_config(*, ltm: bool = True, **changed: Any) -> dict[str, Any]:
    """``config.json`` of M+ (16 short-term tokens, 8 read from long-term memory), or of MemoryLLM (24 short-term tokens)."""
    config: dict[str, Any] = {
        "model_type": "llama",
        "architectures": ["MPlus" if ltm else "MemoryLLM"],
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "num_tokens": NEW,
        "num_blocks": 6,
        "add_bos_embedding": True,
        "add_decoder_lora": True,
        "drop_memory_per_layer": True,
        "lora_config": {"r": RANK, "lora_alpha": 4, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj", "k_proj"]},
    }
    config["lora_config"]["target_modules"] += ["up_proj", "down_proj", "gate_proj"]
    if ltm:
        config |= {
            "num_ltm_blocks": 2,
            "selector_hidden_dim": KEY_WIDTH,
            "num_selector_layers": 2,
            "update_ltm_frequency": 2,
            "initial_rf_when_moving_stm_to_ltm": 3,
            "decay_frequency": 1,
        }
    return {**config, **changed}


def published_tensors(config: dict[str, Any], *, ltm_rows: int = 12) -> dict[str, Tensor]:
    """Every tensor of such a checkpoint."""
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    read_blocks = config.get("num_ltm_blocks", 0)
    head = WIDTH // HEADS
    tensors = {
        "model.embed_tokens.weight": random(VOCABULARY, WIDTH),
        "lm_head.weight": random(VOCABULARY, WIDTH),
        "model.norm.weight": 1 + random(WIDTH),
        "memory": random(LAYERS, NEW * (config["num_blocks"] - read_blocks), WIDTH),
        "bos_embedding": random(LAYERS, 1, WIDTH),
        "new_memory_positional_emb": random(1, 1, WIDTH),
    }
    attention = {"q_proj": (WIDTH, WIDTH), "k_proj": (KV_HEADS * head, WIDTH), "v_proj": (KV_HEADS * head, WIDTH)}
    inner = {"gate_proj": (INNER, WIDTH), "up_proj": (INNER, WIDTH), "down_proj": (WIDTH, INNER)}
    for layer in range(LAYERS):
        stem = f"model.layers.{layer}"
        tensors[f"{stem}.input_layernorm.weight"] = 1 + random(WIDTH)
        tensors[f"{stem}.post_attention_layernorm.weight"] = 1 + random(WIDTH)
        tensors[f"{stem}.self_attn.o_proj.weight"] = random(WIDTH, WIDTH)
        for room, parts in (("self_attn", attention), ("mlp", inner)):
            for name, (outputs, inputs) in parts.items():
                tensors[f"{stem}.{room}.{name}.base_layer.weight"] = random(outputs, inputs)
                for adapter in ("default", "decoder_adapter"):
                    tensors[f"{stem}.{room}.{name}.lora_A.{adapter}.weight"] = random(RANK, inputs)
                    tensors[f"{stem}.{room}.{name}.lora_B.{adapter}.weight"] = random(outputs, RANK)
        if not read_blocks:
            continue
        for kind in ("query_proj", "key_proj", "encoder_query_proj"):
            tensors[f"{stem}.self_attn.{kind}.0.weight"] = random(2 * KEY_WIDTH, WIDTH)
            tensors[f"{stem}.self_attn.{kind}.2.weight"] = random(KEY_WIDTH, 2 * KEY_WIDTH)
        tensors[f"ltm.{layer}"] = random(ltm_rows, WIDTH)
        tensors[f"ltm_keys.{layer}"] = random(ltm_rows, KEY_WIDTH)
        tensors[f"ltm_ages.{layer}"] = torch.arange(ltm_rows).flip(0).float() * 3
        tensors[f"ltm_recall_frequencies.{layer}"] = 2 + torch.arange(ltm_rows).float() % 3
    if not read_blocks:
        tensors["initialized"] = torch.tensor(1, dtype=torch.uint8)
    return tensors


def write_published(
    directory: Path, *, ltm: bool = True, drop: str = "", change: dict[str, Tensor] | None = None, **config: Any
) -> Path:
    """Store a checkpoint in `directory`.

    Args:
        drop: name of a tensor to leave out.
        change: tensors to replace or add.
        config: fields of ``config.json`` to replace.
    """
    directory.mkdir(parents=True, exist_ok=True)
    settings = published_config(ltm=ltm, **config)
    tensors = {**published_tensors(settings), **(change or {})}
    tensors.pop(drop, None)
    (directory / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory
