"""A short identity of a set of weights, equal in float32 and bfloat16. Knows nothing of what they mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

SAMPLES = 1024


def fingerprint(tensors: Mapping[str, Tensor], *, note: str = "") -> str:
    """SHA-256 over `note` and names, shapes and up to 1,024 evenly spaced values (rounded to bfloat16) of every tensor."""
    digest = hashlib.sha256(note.encode())
    for name in sorted(tensors):
        flat = tensors[name].detach().flatten()
        step = max(1, flat.numel() // SAMPLES)
        sample = flat[::step][:SAMPLES].to(torch.bfloat16).cpu().contiguous().view(torch.int16)
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()
