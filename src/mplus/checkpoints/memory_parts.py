"""Settings of memory parts, checked before anything is built: who votes, key width, LoRA. Knows no tensors and no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mplus.attach.adapters import TARGETS
from mplus.errors import InputError
from mplus.runtime.suggest import nearest
from mplus.settings import PATHS

NAMES = ("key_width", "voting", "window", "read_lora", "write_lora")
WIDEST_WINDOW = 1024
LORA = ("r", "lora_alpha", "target_modules")


def check_parts(parts: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Memory parts as ``attach_fresh`` takes them.

    Args:
        depth: layers of the decoder.

    Raises:
        InputError: an unknown part, or a value that no such part can have.
    """
    for name in parts:
        if name in PATHS:
            raise InputError(f"{name} is a size or rule of the memory; give geometry=Geometry({name}={parts[name]!r:.40})")
        if name not in NAMES:
            near = nearest(name, NAMES, cutoff=0.6)
            hint = f"did you mean {near}? " if near else ""
            raise InputError(f"there is no memory part {name!r:.60}; {hint}known: {', '.join(NAMES)}")
    checked = dict(parts)
    for name in ("key_width", "window"):
        value: Any = parts.get(name)
        if name in parts and not (value is None and name == "key_width") and not (_is_whole(value) and value >= 1):
            raise InputError(f"{name} is {value!r:.60}, expected a whole number of at least 1")
    if parts.get("window", 1) > WIDEST_WINDOW:
        raise InputError(f"window is {parts['window']!r:.60}, expected at most {WIDEST_WINDOW} blocks")
    if parts.get("voting") is not None:
        checked["voting"] = _voting(parts["voting"], depth)
    for name in ("read_lora", "write_lora"):
        if parts.get(name) is not None:
            _check_lora(name, parts[name])
    return checked


def _voting(layers: Any, depth: int) -> tuple[int, ...]:
    wrong = not isinstance(layers, Sequence) or isinstance(layers, (str, bytes)) or not layers
    if wrong or not all(_is_whole(layer) and 0 <= layer < depth for layer in layers) or len(set(layers)) != len(layers):
        raise InputError(f"voting is {layers!r:.60}, expected different layers of 0 to {depth - 1}, such as [{depth - 1}]")
    return tuple(layers)


def _check_lora(name: str, config: Any) -> None:
    example = '{"r": 8, "lora_alpha": 16}'
    if not isinstance(config, Mapping) or not {"r", "lora_alpha"} <= set(config) <= set(LORA):
        raise InputError(f"{name} is {config!r:.60}, expected the rank r and lora_alpha, such as {example}")
    rank, alpha, targets = config["r"], config["lora_alpha"], config.get("target_modules", TARGETS)
    if not (_is_whole(rank) and rank >= 1):
        raise InputError(f"{name} has r = {rank!r:.60}, expected a whole number of at least 1")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
        raise InputError(f"{name} has lora_alpha = {alpha!r:.60}, expected a number above 0")
    listed = isinstance(targets, (list, tuple)) and all(isinstance(target, str) for target in targets)
    if not listed or not targets or not set(targets) <= {*TARGETS, "o_proj"}:
        raise InputError(f"{name} has target_modules = {targets!r:.80}, expected some of {', '.join((*TARGETS, 'o_proj'))}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
