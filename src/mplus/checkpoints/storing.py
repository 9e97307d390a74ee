"""Storing a delta in our own format, or a whole model: old or new, never a mixture. Knows our file names, no arithmetic."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mplus.checkpoints.base_models.stock import has_tied_head, save_generation_config
from mplus.checkpoints.delta import DELTA, FORMAT_VERSION, MANIFEST, delta_tensors, is_delta
from mplus.checkpoints.fingerprint import decoder_settings, tokenizer_print
from mplus.checkpoints.loaded_model import LoadedModel
from mplus.errors import CheckpointError, InputError
from mplus.retriever import VoteRetriever
from mplus.runtime.atomic import replace_directory, restored


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
    if include_base and getattr(loaded.attached.decoder.model, "is_quantized", False):
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
    """Where a model is really stored: with ``~`` and a link followed.

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
    retriever = loaded.attached.retriever
    kind: dict[str, Any] | None = None
    if isinstance(retriever, VoteRetriever):
        kind = {"kind": "vote", "voting": list(retriever.voting), "key_width": retriever.key_width, "window": retriever.window}
    elif retriever is not None:
        kind = {"kind": "per_layer", "key_width": retriever.key_width}
    return {
        "format": FORMAT_VERSION,
        "name": loaded.name,
        "base": {
            "name": "." if include_base else loaded.base_name,
            "fingerprint": loaded.base_fingerprint,
            "settings": decoder_settings(loaded.attached.decoder.config),
            "tokenizer": tokenizer_print(loaded.tokenizer),
        },
        "geometry": loaded.geometry.flat(),
        "adapters": loaded.adapter_configs,
        "retriever": kind,
        **({} if loaded.chat_template is None else {"chat_template": loaded.chat_template}),
    }


def _save_base(loaded: LoadedModel, directory: Path) -> None:
    model = loaded.attached.decoder.model
    plain = {name.replace(".base_layer.", "."): value for name, value in model.state_dict().items() if ".lora_" not in name}
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
