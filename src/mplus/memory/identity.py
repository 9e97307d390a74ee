"""Which model a stored memory belongs to. Knows what a model says of itself, nothing of how it computes.

A memory's manifest holds under ``model``: its name, the fingerprint of its weights, and in newer ones the settings of its decoder and
the print of its tokenizer, which weights alone do not show.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mplus.errors import WrongModelError
from mplus.runtime.differences import differing

log = logging.getLogger(__name__)


def identity_of(model: Any) -> dict[str, Any]:
    """What a manifest holds of the model that wrote a memory."""
    found = {"name": model.name, "fingerprint": model.fingerprint}
    for name in ("decoder_settings", "tokenizer_print"):
        value = getattr(model, name, None)
        if value is not None:
            found[name] = value
    return found


def difference(stored: Mapping[str, Any], model: Any) -> str | None:
    """The first difference between the noted model of a memory and `model`, in words; None where it is the same model, as far as is noted."""
    settings, here = stored.get("decoder_settings"), getattr(model, "decoder_settings", None)
    if isinstance(settings, Mapping) and here is not None and dict(settings) != here:
        return f"its settings differ: {differing(settings, here)}"
    tokenizer, own = stored.get("tokenizer_print"), getattr(model, "tokenizer_print", None)
    if tokenizer is not None and own is not None and tokenizer != own:
        return "its tokenizer differs (vocabulary, merges, normaliser or added tokens)"
    if stored["fingerprint"] != model.fingerprint:  # last: settings and tokenizer, where noted, say more
        return f"its weights or memory parts have fingerprint {str(stored['fingerprint'])[:12]}, here {model.fingerprint[:12]}"
    return None


def check_model(stored: Mapping[str, Any], model: Any, directory: Path) -> None:
    """Do nothing if `model` is the model that wrote the memory in `directory`.

    Raises:
        WrongModelError: it is another; says what differs.
    """
    what = difference(stored, model)
    if what is not None:
        raise WrongModelError(
            f"memory {directory} was written by model {str(stored['name'])[:80]!r}, this is {model.name!r}: {what}; "
            "load that model or start a new memory"
        )
    if "decoder_settings" not in stored:
        log.warning("memory %s notes only the weights of its model; save it again to note settings and tokenizer too", directory)
