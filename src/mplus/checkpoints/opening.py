"""Which loader a path, name or hub id is for, seen from its content. Knows all formats, no arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from mplus.checkpoints.adapted import attach_fresh, is_own, load_decoder, load_own
from mplus.checkpoints.base import locate
from mplus.checkpoints.loaded import Loaded
from mplus.checkpoints.published import is_published, load_published
from mplus.checkpoints.tensors import read_json
from mplus.config import Geometry
from mplus.dtypes import resolve_dtype
from mplus.errors import CheckpointError

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def open_checkpoint(
    path_or_id: str,
    *,
    dtype: str | torch.dtype,
    device: str | torch.device | None,
    attention: str | None,
    overrides: dict[str, Any],
) -> Loaded:
    """Open any checkpoint that has memory parts."""
    where = pick_device(device)
    kind = resolve_dtype(dtype, where)
    embedded = ASSETS / path_or_id
    directory = embedded if not Path(path_or_id).exists() and is_own(embedded) else locate(path_or_id)
    if is_own(directory):
        return load_own(directory, dtype=kind, device=where, attention=attention, overrides=overrides, locate_base=locate)
    config = read_json(directory / "config.json")
    if is_published(config):
        loaded = load_published(directory, dtype=kind, device=where, overrides=overrides)
        if attention is not None:
            loaded.attached.decoder.model.set_attn_implementation(attention)
        return loaded
    raise CheckpointError(
        f"{path_or_id} is a plain {config.get('model_type', 'unknown')!r} model without memory parts; "
        "use MPlusModel.from_base to give it fresh ones"
    )


def open_base(
    base: PreTrainedModel | str | Path,
    geometry: Geometry | None,
    tokenizer: Any,
    *,
    dtype: str | torch.dtype,
    device: str | torch.device | None,
    attention: str | None,
    parts: dict[str, Any],
) -> Loaded:
    """Open a stock decoder, or take a loaded one, and give it fresh memory parts."""
    if isinstance(base, PreTrainedModel):
        if attention is not None:
            base.set_attn_implementation(attention)
        model = base if device is None else base.to(torch.device(device))  # type: ignore[arg-type]
        return attach_fresh(model, tokenizer, geometry, name=str(base.config.name_or_path or type(base).__name__), **parts)
    where = pick_device(device)
    path = locate(str(base))
    model, found = load_decoder(str(path), dtype=resolve_dtype(dtype, where), device=where, attention=attention)
    return attach_fresh(model, tokenizer or found, geometry, name=str(base), **parts)


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; else a GPU if there is one; else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
