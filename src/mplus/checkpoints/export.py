"""Storing a model in the published form, the counterpart of ``published``. Knows the published names, no arithmetic.

Legend: L layers, N short-term tokens, D width, R retriever key width.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from torch import Tensor, nn

from mplus.attach.adapters import TARGETS
from mplus.checkpoints.base_models.stock import has_tied_head, save_generation_config
from mplus.checkpoints.delta import place_for_model
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.checkpoints.published import READ, WRITE, geometry_of, is_published
from mplus.checkpoints.tensors import read_json, read_tensors
from mplus.errors import CheckpointError, InputError
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.runtime.atomic import replace_directory
from mplus.settings import Geometry

log = logging.getLogger(__name__)

SHARD = "5GB"
NOT_STORED = (
    "ltm_capacity",
    "ltm_dtype",
    "ltm_search_dtype",
    "search",
    "inv_freq_dtype",
    "min_write_tokens",
    "chunk_tokens",
    "merge_every_writes",
    "drop_tokens",
)
"""Fields of the geometry that the published form has no place for; whoever opens it gets the published rule, or gives their own."""
POLICIES = ("eviction", "initial_recall_frequency", "recall_decay", "stm_ages", "small_ltm")
"""Fields that decide how a memory lives, not what the weights were trained for; a difference is logged."""


def save_published(loaded: LoadedModel, directory: Path) -> None:
    """Write base, adapters, BOS, position, retriever and initial memory as the published checkpoints have them.

    Numbers are stored in the type they are held in. A model trained here starts with an empty memory, for which the
    published form has no word: it gets a pool of zeros marked as not yet made, which the first write then makes.

    Raises:
        InputError: `directory` holds something, or the published form cannot express this model (the reason is named).
        CheckpointError: it cannot be written; nothing is left behind.
    """
    directory = place_for_model(directory)
    if directory.exists() and any(directory.iterdir()):
        raise InputError(f"{directory} holds something already; choose an empty or new directory")
    config = published_config(loaded)
    tensors = published_tensors(loaded)
    try:
        with replace_directory(directory) as aside:
            save_torch_state_dict(tensors, aside, max_shard_size=SHARD)
            (aside / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
            save_generation_config(loaded.parts.decoder.model, aside)
            if loaded.tokenizer is not None:
                loaded.tokenizer.save_pretrained(aside)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model not stored in {directory}: {error}; make room there or choose another place") from None


def published_config(loaded: LoadedModel) -> dict[str, Any]:
    """``config.json``, checked to be read back as this model's geometry.

    Raises:
        InputError: a rule of this model has no published counterpart.
    """
    geometry, source = loaded.geometry, _source(loaded)
    config = dict(source) if source is not None else _plain_config(loaded)
    new = geometry.sizes.new_tokens
    read = geometry.sizes.ltm_read_tokens if geometry.sizes.ltm else 0
    if geometry.sizes.stm_tokens % new or read % new:
        raise InputError(
            f"the published form counts memory in blocks of K = {new}; N ({geometry.sizes.stm_tokens}) and K0 ({read}) must be multiples"
        )
    lora = loaded.adapter_configs[_write_name(loaded)]
    config |= {
        "num_tokens": new,
        "num_blocks": (geometry.sizes.stm_tokens + read) // new,
        "num_ltm_blocks": read // new,
        "add_bos_embedding": True,
        "add_decoder_lora": loaded.parts.adapters.read != loaded.parts.adapters.write,
        "drop_memory_per_layer": geometry.write.drop == "per_layer",
        "lora_config": {"lora_dropout": 0.0, "target_modules": list(TARGETS), **config.get("lora_config", {}), **lora},
    }
    retriever = loaded.parts.retriever
    if isinstance(retriever, PerLayerRetriever):
        depth = 2 if isinstance(retriever.key_proj[0], nn.Sequential) else 1
        config |= {"selector_hidden_dim": retriever.key_width, "num_selector_layers": depth}
    if geometry.quirks.eviction == "countdown":
        config |= {
            "update_ltm_frequency": geometry.quirks.merge_every_writes,
            "initial_rf_when_moving_stm_to_ltm": geometry.quirks.initial_recall_frequency,
            "decay_frequency": geometry.quirks.recall_decay,
        }
    _check(geometry, geometry_of(config))
    return config


def published_tensors(loaded: LoadedModel) -> dict[str, Tensor]:
    """Every tensor by its published name, copied: some share storage (tied embeddings), which the file format refuses."""
    model_parts = loaded.parts
    write, read = _write_name(loaded), model_parts.adapters.read
    out: dict[str, Tensor] = {}
    for name, value in model_parts.decoder.model.state_dict().items():
        for own, published in ((write, WRITE), (read, READ)):
            if ".lora_" in name and f".{own}." in name:
                name = name.replace(f".{own}.", f".{published}.")
                break
        out[name] = value
    out["bos_embedding"] = model_parts.bos[:, None]
    position = torch.zeros_like(model_parts.bos[0]) if model_parts.position is None else model_parts.position
    out["new_memory_positional_emb"] = position[None, None]
    if isinstance(model_parts.retriever, PerLayerRetriever):
        for name, value in model_parts.retriever.state_dict().items():
            kind, layer, rest = name.split(".", 2)
            out[f"model.layers.{layer}.self_attn.{kind}.{rest}"] = value
    out |= _memory(loaded) | _unused(loaded)
    return {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in out.items()}


def _memory(loaded: LoadedModel) -> dict[str, Tensor]:
    initial, geometry, decoder = loaded.initial, loaded.geometry, loaded.parts.decoder
    if initial is not None:
        out = {"memory": initial.stm, "initialized": torch.tensor(int(initial.initialised), dtype=torch.uint8)}
        parts = (initial.ltm, initial.ltm_keys, initial.ltm_ages, initial.ltm_frequencies)
    else:
        out = {
            "memory": torch.zeros(decoder.depth, geometry.sizes.stm_tokens, decoder.width, dtype=decoder.dtype),
            "initialized": torch.tensor(0, dtype=torch.uint8),
        }
        retriever = loaded.parts.retriever
        width = retriever.key_width if isinstance(retriever, PerLayerRetriever) else 0
        each: list[list[Tensor]] = [
            [torch.zeros(0, decoder.width, dtype=decoder.dtype)] * decoder.depth,
            [torch.zeros(0, width, dtype=decoder.dtype)] * decoder.depth,
            [torch.zeros(0, dtype=torch.int64)] * decoder.depth,
            [torch.zeros(0)] * decoder.depth,
        ]
        parts = (each[0], each[1], each[2], each[3])
    if geometry.sizes.ltm:
        for name, values in zip(("ltm", "ltm_keys", "ltm_ages", "ltm_recall_frequencies"), parts, strict=True):
            out |= {f"{name}.{layer}": value for layer, value in enumerate(values)}
    return out


def _unused(loaded: LoadedModel) -> dict[str, Tensor]:
    """What the model's own published checkpoint holds beside what is used here (``encoder_query_proj``), if it is still there."""
    names = [name for name in loaded.report.unused if ".encoder_query_proj." in name]
    if not names or not loaded.geometry.sizes.ltm or _source(loaded) is None:
        return {}
    tensors = read_tensors(Path(loaded.base_name))
    return {name: tensors[name] for name in names if name in tensors}


def _source(loaded: LoadedModel) -> dict[str, Any] | None:
    """``config.json`` of the published checkpoint this model was opened from, if it was and is still there."""
    path = Path(loaded.base_name) / "config.json"
    if loaded.initial is None or not path.is_file():
        return None
    config = read_json(path)
    return config if is_published(config) else None


def _plain_config(loaded: LoadedModel) -> dict[str, Any]:
    """The decoder's own settings; with rotary settings under their older names too, which the reference reads."""
    decoder = loaded.parts.decoder
    if decoder.config.model_type != "llama":
        raise InputError(f"the published form is of Llama models; this is a {decoder.config.model_type!r}")
    config: dict[str, Any] = decoder.config.to_dict()
    config["tie_word_embeddings"] = has_tied_head(decoder.model)
    rotary = config.get("rope_parameters") or {}
    if "rope_theta" in rotary:
        config["rope_theta"] = rotary["rope_theta"]
    config["architectures"] = ["MPlus" if loaded.geometry.sizes.ltm else "MemoryLLM"]
    return config


def _write_name(loaded: LoadedModel) -> str:
    write, read = loaded.parts.adapters.write, loaded.parts.adapters.read
    if write is None or read is None:
        raise InputError(
            "the published form has a write and a read adapter, this model lacks one; only such models can be exported"
        )
    own, other = (loaded.adapter_configs[name] for name in (write, read))
    if own != other:
        raise InputError(f"the published form has one LoRA shape for both adapters, this model has {own} and {other}")
    return write


def _check(own: Geometry, published: Geometry) -> None:
    for name, value in own.flat().items():
        there = published.flat()[name]
        unused = name == "neighbour_blocks" and not own.read.is_shared  # there every token is found alone
        if name in NOT_STORED or value == there or unused or (not own.sizes.ltm and name.startswith(("ltm_", "neighbour"))):
            continue
        if name in POLICIES:
            log.warning("%s is %r here; whoever opens the published form gets %r", name, value, there)
            continue
        raise InputError(
            f"the published form has {name} = {there!r}, this model was trained with {value!r}; it cannot be exported"
        )
