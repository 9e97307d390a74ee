"""A plain Hugging Face model with an adapter on it, for baselines. Reads no memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from peft import PeftModel

from mplus.checkpoints.base_models.base import locate
from mplus.checkpoints.base_models.stock import load_decoder
from mplus.checkpoints.delta import MANIFEST
from mplus.checkpoints.loading import open_checkpoint
from mplus.checkpoints.tensors import read_json, read_shapes
from mplus.errors import CheckpointError


def open_adapted(model: Any, directory: Path) -> Any:
    """The base of an M+ model, opened a second time, with an adapter on it: one that PEFT saved, or the read adapter of a delta.

    Raises:
        CheckpointError: the directory holds no adapter, or one that does not fit the base.
    """
    if (directory / MANIFEST).is_file():
        return _with_read_adapter(model, directory)
    if not (directory / "adapter_config.json").is_file():
        raise CheckpointError(
            f"'{directory}' holds no adapter (no adapter_config.json, no {MANIFEST}); give a directory that PEFT or mplus train saved"
        )
    read_json(directory / "adapter_config.json")
    read_shapes(directory, "adapter_model")  # PEFT would take a pickle where there are no safetensors
    base_name = model.checkpoint.base_name
    base, _ = load_decoder(str(locate(base_name)), dtype=model.dtype, device=model.device, attention=None)
    try:
        with warnings.catch_warnings():  # PEFT still asks transformers for an attribute by its old name
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.* is deprecated", category=FutureWarning)
            adapted = PeftModel.from_pretrained(base, str(directory), is_trainable=False)
    except (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the adapter in '{directory}' does not fit base '{base_name}': {reason}") from None
    return adapted.eval()


def _with_read_adapter(model: Any, directory: Path) -> Any:
    loaded = open_checkpoint(directory, settings={}, dtype=model.dtype, device=model.device)
    adapters = loaded.parts.adapters
    if adapters.read is None:
        raise CheckpointError(f"the delta in '{directory}' has no read adapter; give one that was trained with task read")
    if loaded.base_name != model.checkpoint.base_name:
        raise CheckpointError(
            f"the delta in '{directory}' belongs to base '{loaded.base_name}', the measured model to '{model.checkpoint.base_name}'; "
            "give one of the same base"
        )
    adapters.keep_on(adapters.read)
    return loaded.parts.decoder.model.eval()
