"""The random generators of one process, taken and set. Knows no task; tasks keep generators of their own."""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch


def random_state() -> dict[str, Any]:
    """Python's, NumPy's, torch's and the current GPU's generator, as a tree of numbers and tensors."""
    kind, words, *rest = numpy.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(numpy.asarray(words, dtype=numpy.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on drawing where ``random_state`` was taken."""
    random.setstate(state["python"])
    kind, words, *rest = state["numpy"]
    numpy.random.set_state((kind, words.numpy().astype(numpy.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
