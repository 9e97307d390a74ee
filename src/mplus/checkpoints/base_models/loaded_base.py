"""Loaded models that a caller gives as a base: unwrapped, or refused by name. Knows no files.

Also remembers which models carry memory parts already, so that a second set does not change the first.
"""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from mplus.attach.families import SUPPORTED
from mplus.checkpoints.arguments import OpenArguments
from mplus.checkpoints.base_models.stock import check_finite
from mplus.errors import InputError, UnsupportedModelError
from mplus.runtime.dtypes import NAMES

log = logging.getLogger(__name__)

_users: weakref.WeakKeyDictionary[nn.Module, list[weakref.ref[Any]]] = weakref.WeakKeyDictionary()
EXPECTED = "a loaded ...ForCausalLM, or the name, directory or hub id of one"


def is_loaded(base: Any) -> bool:
    """Whether `base` is a model in memory; False for a name or path.

    Raises:
        InputError: it is neither.
    """
    if isinstance(base, (str, Path)):
        return False
    if isinstance(base, nn.Module) or type(base).__name__ == "MPlusModel":
        return True
    raise InputError(f"base is {'None' if base is None else f'of type {type(base).__name__}'}, expected {EXPECTED}")


def plain_decoder(base: Any) -> PreTrainedModel:
    """The causal language model inside what a caller loaded.

    Raises:
        InputError: adapters, layers elsewhere, no weights, or a number type nobody computes in.
        UnsupportedModelError: another kind of module.
        CheckpointError: weights that are not finite.
    """
    kind = type(base).__name__
    if kind == "MPlusModel":
        raise InputError("the base is an MPlusModel, which has memory parts already; give its base, or use it as it is")
    for wrapper, inner in (("OptimizedModule", "_orig_mod"), ("DataParallel", "module"), ("DistributedDataParallel", "module")):
        if type(base).__name__ == wrapper:
            log.info("%s: the model inside it is used", wrapper)
            base = getattr(base, inner)
    kind = type(base).__name__
    if kind.startswith("Peft") or hasattr(base, "merge_and_unload"):
        raise InputError(f"the base is a {kind} of PEFT; merge the adapter first and give what base.merge_and_unload() returns")
    if "FSDP" in kind or "FullyShardedDataParallel" in kind:
        raise InputError(f"the base is a {kind}, whose weights lie in pieces; load the model whole and give that")
    if not isinstance(base, PreTrainedModel):
        raise UnsupportedModelError(f"memory cannot be attached to a {kind}; give {EXPECTED} ({', '.join(SUPPORTED)})")
    if getattr(base.config, "model_type", None) in SUPPORTED and not hasattr(base, "lm_head"):
        raise UnsupportedModelError(f"{kind} has no language-model head; give the whole causal model, a ...ForCausalLM")
    _check_place(base)
    check_finite(dict(base.named_parameters()), f"the base {kind}")
    return base


def _check_place(model: PreTrainedModel) -> None:
    weights = dict(model.named_parameters())
    devices = {weight.device for weight in weights.values()}
    if any(device.type == "meta" for device in devices):
        raise InputError(
            "the base has layers on 'meta' (offloaded to disk or CPU, or never loaded); load it whole on one device, without offload"
        )
    if len(devices) > 1:
        raise InputError(
            f"the base is spread over {', '.join(sorted(map(str, devices)))}; load it on one device (no device_map with several)"
        )
    dtype = cast(Tensor, model.get_input_embeddings().weight).dtype
    if dtype not in NAMES.values():
        raise InputError(f"the base is held in {str(dtype).removeprefix('torch.')}; convert it to one of {', '.join(NAMES)}")


def place(model: PreTrainedModel, asked: OpenArguments) -> PreTrainedModel:
    """Move a loaded model to the device, number type and attention that were asked for; what was not asked for stays.

    Raises:
        InputError: another MPlusModel uses this base, and would be changed.
    """
    weight = cast(Tensor, model.get_input_embeddings().weight)
    own: Any = model.config
    changes = {
        "device": asked.device_asked and weight.device.type != asked.device.type,
        "dtype": asked.dtype_asked and weight.dtype != asked.dtype,
        "attn_implementation": asked.attention is not None and own._attn_implementation != asked.attention,
    }
    changed = [name for name, value in changes.items() if value]
    check_unchanged(model, changed)
    if asked.quantization is not None:
        raise InputError("quantization_config is for a base that is opened here; this one is loaded already")
    if changes["attn_implementation"]:
        model.set_attn_implementation(cast(str, asked.attention))
    if asked.dtype_asked:
        model = cast(Any, model).to(asked.dtype)
    return model.to(asked.device) if asked.device_asked else model  # type: ignore[arg-type]


def in_use(model: nn.Module) -> bool:
    """Whether memory parts of somebody alive stand on a model."""
    if any(reference() is not None for reference in _users.get(model, [])):
        gc.collect()  # a model let go may wait for it
    return any(reference() is not None for reference in _users.get(model, []))


def note_user(model: nn.Module, user: Any) -> None:
    """Remember that `user` relies on `model` staying as it is."""
    alive = [reference for reference in _users.get(model, []) if reference() is not None]
    _users[model] = [*alive, weakref.ref(user)]


def check_unchanged(model: nn.Module, changes: list[str]) -> None:
    """Raise ``InputError`` when `changes` would reach somebody else's model."""
    if changes and in_use(model):
        raise InputError(
            f"another MPlusModel uses this base, and {' and '.join(changes)} would change it too; load the base a second time"
        )
