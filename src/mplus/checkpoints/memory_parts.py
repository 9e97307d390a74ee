"""Memory parts of a stock decoder: their settings, checked before anything is built, and fresh ones. Knows no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mplus.attach.adapters import TARGETS, Adapters, adapter_names, inject
from mplus.attach.families import Decoder, round_rotary_to_bfloat16
from mplus.attach.hooks import Hooks
from mplus.attach.parts import ModelParts
from mplus.checkpoints.fingerprint import fingerprint
from mplus.checkpoints.load_report import LoadReport
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.errors import GeometryError, InputError
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.runtime.suggest import nearest
from mplus.settings import PATHS, Geometry
from mplus.text.neutral import NEUTRAL

NAMES = ("key_width", "voting", "window", "slot_rank", "read_lora", "write_lora")
WIDEST_WINDOW = 1024
LORA = ("r", "lora_alpha", "target_modules")
TRAINING_FREE_VOTE = (0.8, 0.87, 0.94)  # depths whose centred states find best untrained (RECIPE section 4: layers 24-29 of 30)
WINDOW_BLOCKS = 2


def attach_fresh(
    model: PreTrainedModel,
    tokenizer: Any,
    geometry: Geometry | None,
    *,
    name: str,
    key_width: int | None = None,
    voting: tuple[int, ...] | None = None,
    window: int = WINDOW_BLOCKS,
    slot_rank: int | None = None,
    read_lora: dict[str, Any] | None = None,
    write_lora: dict[str, Any] | None = None,
) -> LoadedModel:
    """Fresh memory parts on a stock decoder.

    Args:
        key_width: R of a trainable retriever; None for the training-free search (shared retrieval only).
        voting: layers that vote (shared retrieval); default: three late ones.
        window: neighbouring blocks the vote judges together.
        slot_rank: of a fresh head that tells which windows answer the same (shared retrieval, a trainable one); None: there is none.
        read_lora, write_lora: ``{"r": ..., "lora_alpha": ...}`` of fresh adapters; None for none.
    """
    decoder = Decoder(model)
    if adapter_names(model):
        raise InputError("the base model carries LoRA adapters already; load it afresh, or merge them first (merge_and_unload)")
    geometry = geometry or Geometry()
    check_fits(geometry, decoder)
    base_print = fingerprint(model.state_dict())
    model.eval().requires_grad_(False)
    if geometry.quirks.inv_freq_dtype == "bfloat16":
        round_rotary_to_bfloat16(decoder)
    bos = bos_vectors(decoder, tokenizer)
    retriever: PerLayerRetriever | LateInteractionRetriever | None = None
    if geometry.sizes.reads_ltm and geometry.read.is_shared:
        layers = voting or tuple(sorted({min(decoder.depth - 1, int(share * decoder.depth)) for share in TRAINING_FREE_VOTE}))
        retriever = LateInteractionRetriever(layers, decoder.width, key_width, window, slot_rank)
        if key_width is None:
            retriever.get_buffer("mean").copy_(mean_states(decoder, tokenizer, layers))
    elif geometry.sizes.reads_ltm:
        retriever = PerLayerRetriever(decoder.depth, decoder.width, key_width or max(8, decoder.width // 16))
    if retriever is not None:
        retriever = retriever.to(device=decoder.device, dtype=decoder.dtype).eval().requires_grad_(False)
    wanted = {"read": read_lora, "write": write_lora}
    configs = {role: config for role, config in wanted.items() if config is not None}
    adapters = add_adapters(model, configs)
    model_parts = ModelParts(decoder, adapters, bos, None, retriever)
    report = LoadReport(name, used=set(model.state_dict()))
    return LoadedModel(model_parts, geometry, tokenizer, name, name, base_print, report, adapter_configs=configs)


def add_adapters(model: PreTrainedModel, configs: dict[str, dict[str, Any]]) -> Adapters:
    """Fresh LoRA sets for the roles in `configs`."""
    for role, config in configs.items():
        inject(model, role, config)
    model.requires_grad_(False)
    return Adapters(model, **{role: role for role in configs})


def check_fits(geometry: Geometry, decoder: Decoder) -> None:
    """Raise ``GeometryError`` when memory alone fills the decoder's positions."""
    slots = 1 + geometry.sizes.stm_tokens + (geometry.sizes.ltm_read_tokens if geometry.sizes.ltm else 0)
    if slots + geometry.sizes.chunk_tokens > decoder.positions:
        limit, why = decoder.limit
        raise GeometryError(
            f"memory needs {slots} positions (1 + N + K0) and a chunk {geometry.sizes.chunk_tokens}, the model has {limit} ({why}); "
            "lower stm_tokens, ltm_read_tokens or chunk_tokens"
        )


def bos_vectors(decoder: Decoder, tokenizer: Any) -> Tensor:
    """[L, D] hidden states that enter each layer at the beginning-of-text token, alone: what attention rests on."""
    token = getattr(tokenizer, "bos_token_id", None)
    token = decoder.config.bos_token_id if token is None else token
    token = decoder.config.eos_token_id if token is None else token
    token = token[0] if isinstance(token, list) else token
    return torch.stack([states[0, 0] for states in _entering(decoder, torch.tensor([[token or 0]]))])


def mean_states(decoder: Decoder, tokenizer: Any, layers: tuple[int, ...]) -> Tensor:
    """[V, D] mean normalised hidden states entering `layers`, over a short built-in text (random tokens without a tokenizer)."""
    if tokenizer is not None:
        ids = torch.tensor([tokenizer(NEUTRAL, add_special_tokens=False)["input_ids"]])
    else:
        ids = torch.randint(0, decoder.config.vocab_size, (1, 128), generator=torch.Generator().manual_seed(0))
    states = _entering(decoder, ids)
    return torch.stack([decoder.normed(layer, states[layer])[0].float().mean(0) for layer in layers])


def _entering(decoder: Decoder, ids: Tensor) -> list[Tensor]:
    taken: dict[int, Tensor] = {}

    def keep(layer: int, hidden: Tensor) -> None:
        taken[layer] = hidden.clone()

    with torch.no_grad(), Hooks() as hooks:
        for layer in range(decoder.depth):
            hooks.before_layer(decoder, layer, partial(keep, layer))
        decoder.body(input_ids=ids.to(decoder.device), use_cache=False)
    return [taken[layer] for layer in range(decoder.depth)]


def check_parts(parts: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Memory parts as ``attach_fresh`` takes them.

    Args:
        depth: layers of the decoder.

    Raises:
        InputError: an unknown part, or a value that no such part can have.
    """
    for name in parts:
        if name in PATHS:
            raise InputError(f"{name} is a size or rule of the memory; give geometry=Geometry({name}={parts[name]!r:.40})")
        if name not in NAMES:
            near = nearest(name, NAMES, cutoff=0.6)
            hint = f"did you mean {near}? " if near else ""
            raise InputError(f"there is no memory part {name!r:.60}; {hint}known: {', '.join(NAMES)}")
    checked = dict(parts)
    for name in ("key_width", "window", "slot_rank"):
        value: Any = parts.get(name)
        if name in parts and not (value is None and name != "window") and not (_is_whole(value) and value >= 1):
            raise InputError(f"{name} is {value!r:.60}, expected a whole number of at least 1")
    if parts.get("window", 1) > WIDEST_WINDOW:
        raise InputError(f"window is {parts['window']!r:.60}, expected at most {WIDEST_WINDOW} blocks")
    if parts.get("voting") is not None:
        checked["voting"] = _voting(parts["voting"], depth)
    for name in ("read_lora", "write_lora"):
        if parts.get(name) is not None:
            _check_lora(name, parts[name])
    return checked


def _voting(layers: Any, depth: int) -> tuple[int, ...]:
    wrong = not isinstance(layers, Sequence) or isinstance(layers, (str, bytes)) or not layers
    if wrong or not all(_is_whole(layer) and 0 <= layer < depth for layer in layers) or len(set(layers)) != len(layers):
        raise InputError(f"voting is {layers!r:.60}, expected different layers of 0 to {depth - 1}, such as [{depth - 1}]")
    return tuple(layers)


def _check_lora(name: str, config: Any) -> None:
    example = '{"r": 8, "lora_alpha": 16}'
    if not isinstance(config, Mapping) or not {"r", "lora_alpha"} <= set(config) <= set(LORA):
        raise InputError(f"{name} is {config!r:.60}, expected the rank r and lora_alpha, such as {example}")
    rank, alpha, targets = config["r"], config["lora_alpha"], config.get("target_modules", TARGETS)
    if not (_is_whole(rank) and rank >= 1):
        raise InputError(f"{name} has r = {rank!r:.60}, expected a whole number of at least 1")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
        raise InputError(f"{name} has lora_alpha = {alpha!r:.60}, expected a number above 0")
    listed = isinstance(targets, (list, tuple)) and all(isinstance(target, str) for target in targets)
    if not listed or not targets or not set(targets) <= {*TARGETS, "o_proj"}:
        raise InputError(f"{name} has target_modules = {targets!r:.80}, expected some of {', '.join((*TARGETS, 'o_proj'))}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
