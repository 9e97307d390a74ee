"""A plain Hugging Face model with a PEFT adapter on it, for baselines. Knows nothing of memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from peft import PeftModel

from mplus.checkpoints.adapted import load_decoder
from mplus.checkpoints.base import locate
from mplus.errors import CheckpointError


def open_adapted(model: Any, directory: Path) -> Any:
    """The base of an M+ model, opened a second time, with an adapter of PEFT's on it.

    Raises:
        CheckpointError: the directory holds no adapter, or one that does not fit the base.
    """
    if not (directory / "adapter_config.json").is_file():
        raise CheckpointError(f"'{directory}' holds no PEFT adapter (no adapter_config.json); give a directory that PEFT saved")
    base_name = model._loaded.base_name
    base, _ = load_decoder(str(locate(base_name)), dtype=model.dtype, device=model.device, attention=None)
    try:
        with warnings.catch_warnings():  # PEFT still asks transformers for an attribute by its old name
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.* is deprecated", category=FutureWarning)
            adapted = PeftModel.from_pretrained(base, str(directory), is_trainable=False)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the adapter in '{directory}' does not fit base '{base_name}': {reason}") from None
    return adapted.eval()
