"""Arguments of opening a model: device, attention, hub, and those people know from transformers. Opens nothing.

What has no meaning here is refused by name, never ignored: a model that silently is not what was asked for is worse than none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available, is_torch_flex_attn_available

from mplus.checkpoints.base_models.hub import HubArguments
from mplus.errors import InputError
from mplus.runtime.dtypes import named_dtype, resolve_dtype
from mplus.settings import GeometrySettings


class OpenSettings(GeometrySettings, total=False):
    """Keyword arguments of ``MPlusModel.from_pretrained`` beyond its own: memory sizes and arguments of transformers."""

    torch_dtype: str | torch.dtype
    device_map: str | torch.device | dict[str, Any]
    quantization_config: Any
    revision: str
    token: str | bool
    cache_dir: str | Path
    local_files_only: bool
    base: str | Path
    allow_download: bool


BUILT_IN = ("sdpa", "eager")
INSTALLED = {
    "flash_attention_2": (is_flash_attn_2_available, "flash-attn"),
    "flash_attention_3": (is_flash_attn_3_available, "flash-attn-3"),
    "flex_attention": (is_torch_flex_attn_available, "a torch with flex attention"),
}
ONE_DEVICE = ("auto", "balanced", "balanced_low_0", "sequential")
REFUSED = {
    "trust_remote_code": "code of a model directory is never run",
    "load_in_4bit": "give quantization_config=BitsAndBytesConfig(load_in_4bit=True)",
    "load_in_8bit": "give quantization_config=BitsAndBytesConfig(load_in_8bit=True)",
    "use_auth_token": "give token=...",
    "force_download": "remove the model from the hub's cache, or give revision=...",
    "resume_download": "downloads always go on where they stopped",
    "proxies": "set HTTPS_PROXY",
    "mirror": "set HF_ENDPOINT",
    "subfolder": "give the directory itself",
    "variant": "the weights are those in model.safetensors",
    "gguf_file": "convert it to safetensors first",
    "from_tf": "convert it to safetensors first",
    "from_flax": "convert it to safetensors first",
    "config": "edit config.json of a copy",
    "state_dict": "load the weights into the model and give that to from_base",
    "generation_config": "give its fields to generate",
    "max_memory": "a model lies on one device; give device=...",
    "offload_folder": "a model lies on one device; give device=...",
    "offload_state_dict": "a model lies on one device; give device=...",
    "offload_buffers": "a model lies on one device; give device=...",
    "tp_plan": "a model lies on one device; give device=...",
    "tp_size": "a model lies on one device; give device=...",
    "device_mesh": "a model lies on one device; give device=...",
    "ignore_mismatched_sizes": "every tensor must fit",
    "adapter_kwargs": "merge the adapter into the base first (merge_and_unload)",
    "attention": "give attn_implementation=...",
    "allow_all_kernels": "kernels of the hub are never loaded",
    "use_kernels": "kernels of the hub are never loaded",
    "kernel_config": "kernels of the hub are never loaded",
}
"""Arguments of transformers to what to do instead."""
HARMLESS = {
    "trust_remote_code": (False, None),
    "use_safetensors": (True, None),
    "low_cpu_mem_usage": (True, False, None),
    "force_download": (False,),
    "load_in_4bit": (False,),
    "load_in_8bit": (False,),
    "ignore_mismatched_sizes": (False,),
    "use_kernels": (False,),
    "allow_all_kernels": (False, None),
}
"""Arguments to the values that say what is done anyway."""


@dataclass(frozen=True, kw_only=True)
class OpenArguments:
    """Everything that says how a model is opened, resolved.

    Attributes:
        dtype_asked: whether a number type was named, or the choice left to the machine.
        device_asked: likewise for the device.
        attention: an implementation of transformers; None: ``sdpa``, or for a loaded model what it has.
        allow_download: whether a base that a delta names may be downloaded.
        base: where the base lies that a delta names, if the caller says so.
    """

    dtype: torch.dtype
    dtype_asked: bool
    device: torch.device
    device_asked: bool
    attention: str | None
    quantization: Any
    hub: HubArguments
    base: str | None
    allow_download: bool

    @property
    def placement(self) -> dict[str, Any]:
        """Keyword arguments of ``load_decoder``."""
        return {"dtype": self.dtype, "device": self.device, "attention": self.attention, "quantization": self.quantization}


def open_arguments(
    *,
    dtype: str | torch.dtype = "auto",
    torch_dtype: str | torch.dtype | None = None,
    device: str | int | torch.device | None = None,
    device_map: Any = None,
    attention: str | None = None,
    quantization: Any = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    base: str | Path | None = None,
    allow_download: bool = False,
) -> OpenArguments:
    """Check and resolve what a caller of ``from_pretrained`` or ``from_base`` gave.

    Raises:
        InputError: a value is unknown, contradicts another, or asks for what is not here.
    """
    if torch_dtype is not None:
        if dtype not in ("auto", torch_dtype) and (torch_dtype == "auto" or named_dtype(dtype) != named_dtype(torch_dtype)):
            raise InputError(f"dtype is {dtype} and torch_dtype {torch_dtype}; give one of them")
        dtype = torch_dtype
    where = one_device(device, device_map)
    if attention is not None:
        check_attention(attention)
    if quantization is not None and not (isinstance(quantization, Mapping) or hasattr(quantization, "quant_method")):
        raise InputError(
            f"quantization_config is {quantization!r:.80}; give a configuration of transformers, such as BitsAndBytesConfig"
        )
    if base is not None and not isinstance(base, (str, Path)):
        raise InputError(f"base is {type(base).__name__}, expected the name, directory or hub id of the base a delta belongs to")
    device_now = where or default_device()
    return OpenArguments(
        dtype=resolve_dtype(dtype, device_now),
        dtype_asked=not isinstance(dtype, str) or dtype != "auto",
        device=device_now,
        device_asked=where is not None,
        attention=attention,
        quantization=quantization,
        hub=HubArguments(
            revision=revision,
            token=token,
            cache_dir=os.fspath(cache_dir) if isinstance(cache_dir, os.PathLike) else cache_dir,
            local_files_only=bool(local_files_only),
        ),
        base=None if base is None else str(base),
        allow_download=bool(allow_download),
    )


def without_transformers(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without arguments of transformers that say what is done anyway.

    Raises:
        InputError: an argument of transformers that has no meaning here; says what to do instead.
    """
    rest = dict(settings)
    for name in set(rest) & (set(REFUSED) | set(HARMLESS)):
        value = rest.pop(name)
        if not any(value is harmless for harmless in HARMLESS.get(name, ())):
            instead = REFUSED.get(name, "only safetensors are read; convert the weights")
            raise InputError(f"{name}={value!r:.60} is not supported: {instead}")
    return rest


def one_device(device: str | int | torch.device | None, device_map: Any = None) -> torch.device | None:
    """The device asked for by ``device`` or by a ``device_map`` that names one; None where the choice is left to the machine.

    Raises:
        InputError: not a device, one that is not here, or several.
    """
    mapped: Any = device_map
    if isinstance(device_map, Mapping):
        places = {str(place) for place in device_map.values()}
        if len(places) != 1:
            raise InputError(
                f"device_map spreads the layers over {', '.join(sorted(places)) or 'no device'}; a model lies on one device, give device=..."
            )
        mapped = next(iter(device_map.values()))
    elif isinstance(device_map, str) and device_map in ONE_DEVICE:
        mapped = None
    chosen, asked = (None if value is None else _device(value) for value in (mapped, device))
    if chosen is not None and asked is not None and chosen != asked:
        raise InputError(f"device is {asked} and device_map names {chosen}; give one of them")
    return asked or chosen


def default_device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device(wanted: Any) -> torch.device:
    try:
        if isinstance(wanted, bool) or not isinstance(wanted, (str, int, torch.device)):
            raise TypeError
        device = torch.device("cuda", wanted) if isinstance(wanted, int) else torch.device(wanted)
    except (RuntimeError, TypeError):
        raise InputError(f"device {wanted!r:.60} is not known; choose cpu, cuda, cuda:1, mps or another of torch's") from None
    if device.type == "meta":
        raise InputError("a model on device 'meta' has no weights to compute with; choose cpu, cuda or another")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(
                f"device {str(device)!r} is not here (torch sees {count} CUDA devices); choose cpu or leave device out"
            )
    elif device.type != "cpu":
        try:
            torch.zeros(1, device=device)
        except Exception as error:  # each back end has errors of its own
            reason = " ".join(str(error).split())[:120]
            raise InputError(f"device {str(device)!r} cannot be used here ({reason}); choose cpu or leave device out") from None
    return device


def check_attention(name: str) -> None:
    """Do nothing if an attention implementation can be used here. Kernels of the hub, which are code, never are.

    Raises:
        InputError: it is unknown or not installed.
    """
    known = [*BUILT_IN, *INSTALLED]
    registered = [key for key in AttentionInterface().valid_keys() if not key.startswith(("flash", "paged"))]
    if not isinstance(name, str) or "/" in name or name not in (*known, *registered):
        raise InputError(f"attn_implementation {name!r:.80} is not known; choose one of {', '.join(known)}")
    if name in INSTALLED and not INSTALLED[name][0]():
        raise InputError(f"attn_implementation {name!r} needs {INSTALLED[name][1]}, which is not installed; choose sdpa or eager")
