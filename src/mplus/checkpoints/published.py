"""The formats of the published models: mplus-8b, memoryllm-8b, memoryllm-8b-chat. Knows their names and quirks.

Legend: L layers, D width, K new tokens, S short-term tokens, R retriever key width, r LoRA rank.
Arithmetic and names as recorded from the reference (K = ``num_tokens``; S and K0 count blocks of K).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from mplus.attach.adapters import Adapters, inject
from mplus.attach.families import Decoder, round_rotary_to_bfloat16
from mplus.attach.parts import ModelParts
from mplus.checkpoints.arguments import OpenArguments
from mplus.checkpoints.base_models.stock import in_one_sentence, load_generation_config, load_tokenizer
from mplus.checkpoints.fingerprint import fingerprint
from mplus.checkpoints.load_report import CheckedTensors
from mplus.checkpoints.loaded_model import InitialMemory, LoadedModel
from mplus.checkpoints.tensors import check_bounds, read_json, read_tensors
from mplus.errors import CheckpointError, GeometryError
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.settings import Geometry

WRITE, READ = "default", "decoder_adapter"
OWN_KEYS = (
    "add_bos_embedding add_decoder_lora add_encoder_retriever add_selector decay_frequency detach_hidden_state "
    "drop_memory_per_layer initial_rf_when_moving_stm_to_ltm lora_config ltm_initial_size map_from_hidden_states num_blocks "
    "num_ltm_blocks num_memory_tokens num_selector_layers num_tokens selector_hidden_dim update_ltm_frequency update_ltm_mode "
    "architectures torch_dtype dtype transformers_version auto_map attn_implementation _attn_implementation "
    "_attn_implementation_internal experts_implementation quantization_config transformers_weights"
).split()
SENSELESS = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    GeometryError,
    StrictDataclassError,
)
"""What a senseless ``config.json`` makes of the code that reads it."""
TRAINED_ROTARY_BF16_WIDTH = 4096  # the 8B model is the one that was run with rounded frequencies


def is_published(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` is of the published M+ or MemoryLLM form."""
    return "num_tokens" in config and "num_blocks" in config and "lora_config" in config


def geometry_of(config: dict[str, Any]) -> Geometry:
    """Sizes and the published rules, from a published ``config.json``."""
    new = int(config["num_tokens"])
    read_blocks = int(config.get("num_ltm_blocks", 0) or 0)
    has_ltm = read_blocks > 0
    rounded = has_ltm and int(config["hidden_size"]) == TRAINED_ROTARY_BF16_WIDTH
    return Geometry(
        new_tokens=new,
        stm_tokens=new * (int(config["num_blocks"]) - read_blocks),
        ltm_read_tokens=new * read_blocks,
        ltm=has_ltm,
        chunk_tokens=max(512, new),
        min_write_tokens=16,
        write_tap="output",
        memory_projection="read",
        drop="per_layer" if config.get("drop_memory_per_layer", True) else "shared",
        retrieval="per_layer",
        block_tokens=1,
        neighbour_blocks=0,
        eviction="countdown",
        search="exact",
        merge_every_writes=int(config.get("update_ltm_frequency", 1)),
        initial_recall_frequency=float(config.get("initial_rf_when_moving_stm_to_ltm", 10)),
        recall_decay=float(config.get("decay_frequency", 1)),
        stm_ages="frozen",
        small_ltm="repeat",
        inv_freq_dtype="bfloat16" if rounded else "float32",
    )


def load_published(directory: Path, asked: OpenArguments, *, overrides: dict[str, Any]) -> LoadedModel:
    """Open a published checkpoint directory.

    Args:
        overrides: geometry fields to replace, e.g. ``{"inv_freq_dtype": "bfloat16"}``.

    Raises:
        CheckpointError: any tensor missing, unknown, misshapen or not finite (the first of each kind are named, the rest counted).
    """
    config = read_json(directory / "config.json")
    stored = read_tensors(directory)
    try:
        own = geometry_of(config)
        model = _empty_model(config, stored)
        retriever = _empty_retriever(config, model) if own.sizes.ltm else None
    except SENSELESS as error:
        first = (str(error).strip().splitlines() or [""])[0][:240]
        raise CheckpointError(
            f"{directory / 'config.json'} does not describe a published model ({type(error).__name__}: {first}); get an undamaged copy"
        ) from None
    geometry = own.changed(**overrides)
    tokenizer = load_tokenizer(directory)
    with in_one_sentence(f"the published model in {directory}"):
        if model.config.tie_word_embeddings and "model.embed_tokens.weight" in stored:
            stored.setdefault("lm_head.weight", stored["model.embed_tokens.weight"])
        tensors = CheckedTensors(str(directory), stored, dtype=asked.dtype, device=asked.device)
        model_parts, initial = _filled(tensors, config, model, geometry, retriever if geometry.sizes.ltm else None)
        model.set_attn_implementation(asked.attention or "sdpa")
        load_generation_config(directory, model)
        if geometry.quirks.inv_freq_dtype == "bfloat16":
            round_rotary_to_bfloat16(model_parts.decoder)
        lora = {"r": config["lora_config"]["r"], "lora_alpha": config["lora_config"]["lora_alpha"]}
        return LoadedModel(
            model_parts,
            geometry,
            tokenizer,
            name=directory.name if directory.name != "checkpoint" else directory.parent.name,
            base_name=str(directory),
            base_fingerprint=fingerprint(model.state_dict()),
            report=tensors.report,
            initial=initial,
            adapter_configs={WRITE: lora, READ: lora},
        )


def _filled(
    tensors: CheckedTensors,
    config: dict[str, Any],
    model: LlamaForCausalLM,
    geometry: Geometry,
    retriever: PerLayerRetriever | None,
) -> tuple[ModelParts, InitialMemory]:
    """The model's parts and its initial memory, every tensor of the checkpoint in its place."""
    depth, width = model.config.num_hidden_layers, model.config.hidden_size
    _fill(model, tensors, lambda name: name)
    if not tensors.report.missing and not tensors.report.misshapen:
        model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config).to(tensors.device)
    if retriever is not None:
        _fill(retriever, tensors, _published_name)
    bos = tensors.take("bos_embedding", (depth, 1, width))
    position = tensors.take("new_memory_positional_emb", (1, 1, width))
    initial = _initial_memory(tensors, geometry, depth, width, config)
    _leave_unused(tensors, geometry.sizes.ltm)
    tensors.finished()
    assert bos is not None and position is not None and initial is not None
    read = READ if any(f".{READ}." in name for name in tensors) else WRITE
    return ModelParts(Decoder(model), Adapters(model, write=WRITE, read=read), bos[:, 0], position[0, 0], retriever), initial


def _empty_model(config: dict[str, Any], tensors: dict[str, Tensor]) -> LlamaForCausalLM:
    """The decoder with both adapters, on the meta device; its state dict has the published names."""
    own = {key: value for key, value in config.items() if key not in OWN_KEYS and value is not None}
    if own["num_hidden_layers"] > len(tensors):
        raise ValueError(f"{len(tensors)} tensors cannot be {own['num_hidden_layers']} layers")
    depth = config.get("num_selector_layers", 2)
    sizes = {
        "selector_hidden_dim": config.get("selector_hidden_dim"),
        "num_selector_layers": depth,
        "lora_config.r": config["lora_config"]["r"],
    }
    check_bounds(sizes, [value.shape for value in tensors.values()])
    own["tie_word_embeddings"] = bool(own.get("tie_word_embeddings", False)) and _is_tied(tensors)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**own))
    lora = {**config["lora_config"]}
    names = [name for name in (WRITE, READ) if name == WRITE or any(f".{READ}." in key for key in tensors)]
    for name in names:
        inject(model, name, lora, empty=True)
    return model


def _is_tied(tensors: dict[str, Tensor]) -> bool:
    """Whether the head is the table of embeddings, where the config says so; a head of its own is kept."""
    head, table = tensors.get("lm_head.weight"), tensors.get("model.embed_tokens.weight")
    return head is None or (table is not None and torch.equal(head, table))


def _empty_retriever(config: dict[str, Any], model: LlamaForCausalLM) -> PerLayerRetriever:
    depth, width = model.config.num_hidden_layers, model.config.hidden_size
    with torch.device("meta"):
        return PerLayerRetriever(depth, width, int(config["selector_hidden_dim"]), int(config.get("num_selector_layers", 2)))


def _fill(module: nn.Module, tensors: CheckedTensors, published: Callable[[str], str]) -> None:
    """Give an empty module its weights, each from its published name."""
    found = {name: tensors.take(published(name), tuple(empty.shape)) for name, empty in module.state_dict().items()}
    if not tensors.report.missing and not tensors.report.misshapen:
        module.load_state_dict(found, assign=True, strict=True)
        module.eval().requires_grad_(False)


def _published_name(name: str) -> str:
    """Of a retriever's ``query_proj.<layer>.<rest>``."""
    kind, layer, rest = name.split(".", 2)
    return f"model.layers.{layer}.self_attn.{kind}.{rest}"


def _initial_memory(
    tensors: CheckedTensors, geometry: Geometry, depth: int, width: int, config: dict[str, Any]
) -> InitialMemory | None:
    cpu, report = torch.device("cpu"), tensors.report
    stm = tensors.take("memory", (depth, geometry.sizes.stm_tokens, width), device=cpu)
    if stm is None:
        return None
    initial = InitialMemory(stm)
    if "initialized" in tensors:
        flag = tensors.take("initialized", (), dtype=torch.float32, device=cpu)
        initial.initialised = flag is not None and bool(flag.any())
    if not geometry.sizes.ltm:
        return initial
    for layer in range(depth):
        rows = tensors.take(f"ltm.{layer}", None, device=cpu)
        count = rows.shape[0] if rows is not None and rows.dim() else 0
        key_width = int(config["selector_hidden_dim"])
        keys = tensors.take(f"ltm_keys.{layer}", (count, key_width), device=cpu)
        ages = tensors.take(f"ltm_ages.{layer}", (count,), dtype=torch.int64, device=cpu)
        frequency = tensors.take(f"ltm_recall_frequencies.{layer}", (count,), dtype=torch.float32, device=cpu)
        if rows is None or keys is None or ages is None or frequency is None:
            continue
        if rows.dim() != 2 or rows.shape[1] != width:
            report.misshapen.append(f"ltm.{layer} is {list(rows.shape)}, expected [any, {width}]")
            continue
        initial.ltm.append(rows)
        initial.ltm_keys.append(keys)
        initial.ltm_ages.append(ages)
        initial.ltm_frequencies.append(frequency)
    return initial


def _leave_unused(tensors: CheckedTensors, ltm: bool) -> None:
    long_term = ("ltm.", "ltm_keys.", "ltm_ages.", "ltm_recall_frequencies.")
    for name in set(tensors) - tensors.report.used:
        if not ltm and (name.startswith(long_term) or ".query_proj." in name or ".key_proj." in name):
            tensors.leave((name,), "long-term memory is switched off")
        elif ".encoder_query_proj." in name:
            tensors.leave((name,), "the reference loads it but does not use it at inference")
        elif name.endswith("rotary_emb.inv_freq"):
            tensors.leave((name,), "computed from the configuration")
