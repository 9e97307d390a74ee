"""Which number type this machine computes faster. Knows processors, not models."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path

import torch

from mplus.errors import InputError

log = logging.getLogger(__name__)

FAST_FLAGS = ("amx_bf16",)  # avx512_bf16 alone proves nothing: twice as fast on one processor, half as fast on another
NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHORT = {"fp32": "float32", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}
"""Other names that people use."""


def named_dtype(wanted: str | torch.dtype) -> torch.dtype:
    """The type of a name ("float32", "torch.float32", "fp16", ...) or a torch type, if a model can compute in it.

    Raises:
        InputError: any other; the known ones are listed.
    """
    name = str(wanted).removeprefix("torch.") if isinstance(wanted, (str, torch.dtype)) else ""
    name = SHORT.get(name, name)
    if name not in NAMES:
        raise InputError(f"dtype {str(wanted)[:80]!r} is not one a model computes in; choose auto, {', '.join(NAMES)}")
    return NAMES[name]


def resolve_dtype(wanted: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The type to load weights in.

    Args:
        wanted: "auto", "float32", "bfloat16", "float16" (or "fp32", "bf16", "fp16", "half") or such a torch type. "auto" is
            bfloat16 where the machine computes it faster (known from processor flags, else measured once), float32
            otherwise; the choice is logged.

    Raises:
        InputError: another name or type.
    """
    if not isinstance(wanted, str) or wanted != "auto":
        return named_dtype(wanted)
    chosen, why = _fastest(device.type)
    log.info("dtype auto: %s (%s)", str(chosen).removeprefix("torch."), why)
    return chosen


@functools.cache
def _fastest(device_type: str) -> tuple[torch.dtype, str]:
    if device_type == "cuda":
        return (
            (torch.bfloat16, "GPU with bfloat16") if torch.cuda.is_bf16_supported() else (torch.float16, "GPU without bfloat16")
        )
    if device_type != "cpu":
        return torch.float32, f"device {device_type}"
    flags = _cpu_flags()
    known = [flag for flag in FAST_FLAGS if flag in flags]
    if known:
        return torch.bfloat16, f"processor has {known[0]}"
    ratio = _seconds(torch.float32) / _seconds(torch.bfloat16)
    return (torch.bfloat16 if ratio > 1.2 else torch.float32), f"measured: bfloat16 matmul {ratio:.2f} x float32"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return set()
    return next((set(line.split(":", 1)[1].split()) for line in lines if line.startswith(("flags", "Features"))), set())


def _seconds(dtype: torch.dtype) -> float:
    left, right = torch.ones(256, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(4):
            left @ right
        times.append(time.perf_counter() - start)
    return min(times[1:])
