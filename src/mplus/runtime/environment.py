"""What a number must be read with: versions, commit, machine. Knows nothing of models."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch

_DISTRIBUTIONS: Final = {"mplus": "mplus-llm", "torch": "torch", "transformers": "transformers", "peft": "peft"}
_TELLING_CPU_FLAGS: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def environment_of(dtype: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Versions of what computed a result, and the machine it was computed on."""
    versions = {"python": platform.python_version()}
    for name, distribution in _DISTRIBUTIONS.items():
        try:
            versions[name] = version(distribution)
        except PackageNotFoundError:
            versions[name] = "not installed"
    if commit := _commit():
        versions["commit"] = commit
    processor, flags = _processor()
    hardware = {
        "processor": processor,
        "cpu_flags": [flag for flag in _TELLING_CPU_FLAGS if flag in flags],
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "dtype": str(dtype).removeprefix("torch."),
    }
    return versions, hardware


def _commit() -> str | None:
    """The commit of our own checkout, with "+" when files differ from it; None when this is an installed copy."""
    here = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    entries = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(entries.get("flags", entries.get("Features", "")).split())
    return entries.get("model name") or platform.machine(), flags
