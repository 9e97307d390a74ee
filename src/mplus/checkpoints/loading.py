"""Which loader a path, name or hub id is for, seen from its content. Knows all formats, no arithmetic."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from mplus.attach.adapters import adapter_names
from mplus.checkpoints.arguments import OpenArguments, open_arguments, without_transformers
from mplus.checkpoints.base_models.base import BASES, locate
from mplus.checkpoints.base_models.loaded_base import check_unchanged, is_loaded, note_user, place, plain_decoder
from mplus.checkpoints.base_models.stock import check_files, load_decoder
from mplus.checkpoints.delta import is_delta, load_delta
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.checkpoints.memory_parts import attach_fresh, check_parts
from mplus.checkpoints.published import is_published, load_published
from mplus.checkpoints.tensors import read_json
from mplus.errors import BaseModelMissingError, CheckpointError, InputError
from mplus.settings import Geometry

log = logging.getLogger(__name__)

PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
ASSETS = Path(__file__).resolve().parent.parent / "assets"
OPENING = ("torch_dtype", "device_map", "revision", "token", "cache_dir", "local_files_only")
DELTA_OPENING = ("base", "allow_download")


def open_checkpoint(path_or_id: str | Path, *, settings: dict[str, Any], **arguments: Any) -> LoadedModel:
    """Open any checkpoint that has memory parts.

    Args:
        settings: fields of the geometry to replace, and arguments of ``open_arguments`` by the names people know.
        arguments: of ``open_arguments``.

    Raises:
        MPlusError: see ``MPlusModel.from_pretrained``.
    """
    if not isinstance(path_or_id, (str, Path)):
        raise InputError(
            f"a model is opened by its name, directory or hub id, not by {type(path_or_id).__name__}; give a text or a path"
        )
    asked, overrides = _split(settings, arguments, (*OPENING, *DELTA_OPENING))
    name = str(path_or_id)
    directory = ASSETS / name if is_shipped(name) else locate(name, asked.hub)
    if is_delta(directory):
        return load_delta(directory, asked, overrides=overrides, locate_base=lambda base: _locate_base(base, directory, asked))
    check_files(directory)
    config = read_json(directory / "config.json")
    if is_published(config):
        if asked.quantization is not None:
            raise InputError(
                "quantization_config is for stock decoders, this is a published model; leave it out and choose a dtype"
            )
        return load_published(directory, asked, overrides=overrides)
    raise CheckpointError(
        f"{name} is a plain {str(config.get('model_type', 'unknown'))[:60]!r} model without memory parts; "
        "use MPlusModel.from_base to give it fresh ones"
    )


def is_shipped(name: str) -> bool:
    """Tell whether the package brings a delta, or a whole model, of this name."""
    return PLAIN_NAME.fullmatch(name) is not None and is_delta(ASSETS / name)


def open_base(
    base: PreTrainedModel | str | Path, geometry: Geometry | None, tokenizer: Any, *, parts: dict[str, Any], **arguments: Any
) -> LoadedModel:
    """Open a stock decoder, or take a loaded one, and give it fresh memory parts."""
    if not isinstance(geometry, (Geometry, type(None))):
        raise InputError(f"geometry is {type(geometry).__name__}, expected a Geometry, such as Geometry(stm_tokens=512)")
    if tokenizer is not None and not callable(tokenizer):
        raise InputError(f"tokenizer is {type(tokenizer).__name__}, expected a loaded tokenizer (AutoTokenizer.from_pretrained)")
    asked, parts = _split(parts, arguments, OPENING)
    if is_loaded(base):
        model = place(plain_decoder(base), asked)
        name = str(model.config.name_or_path or type(model).__name__)
    else:
        path = locate(str(base), asked.hub)
        if is_delta(path):
            raise InputError(f"{base} has memory parts already; open it with MPlusModel.from_pretrained")
        model, found = load_decoder(str(path), **asked.placement)
        tokenizer, name = tokenizer or found, str(base)
    checked = check_parts(parts, int(model.config.num_hidden_layers))
    changes = [part for part in ("read_lora", "write_lora") if checked.get(part) is not None]
    changes += ["inv_freq_dtype"] if geometry is not None and geometry.quirks.inv_freq_dtype == "bfloat16" else []
    if not adapter_names(model):  # else the next line says so
        check_unchanged(model, changes)
    loaded = attach_fresh(model, tokenizer, geometry, name=name, **checked)
    note_user(model, loaded)
    return loaded


def _split(settings: dict[str, Any], arguments: dict[str, Any], names: tuple[str, ...]) -> tuple[OpenArguments, dict[str, Any]]:
    """What says how to open, and the rest of the settings."""
    rest = dict(settings)
    given = {name: rest.pop(name) for name in names if name in rest}
    if "quantization_config" in rest:
        given["quantization"] = rest.pop("quantization_config")
    return open_arguments(**arguments, **given), without_transformers(rest)


def _locate_base(name: str, delta: Path, asked: OpenArguments) -> Path:
    """Where the base lies that a delta names, or that the caller names instead; nothing is downloaded unasked."""
    hub = replace(asked.hub, revision=None)
    if asked.base is not None:
        return locate(asked.base, hub)
    try:
        return locate(name, replace(hub, may_download=asked.allow_download))
    except BaseModelMissingError:
        if name in BASES or asked.allow_download:
            raise
        raise BaseModelMissingError(
            f"{delta} belongs to base {name!r:.200}, which is not on this machine and is not downloaded because a file says so; run "
            f"`hf download {name:.200}`, give base=DIR, or allow it with allow_download=True"
        ) from None
