"""The models that attacks use, each built once per process: tiny ones, or the real one where asked for."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import torch

from mplus import Memory, MPlusModel
from tests import tiny

REAL = "MPLUS_ABUSE_REAL"
"""Environment variable with the name of the model that stands for "shared"."""


@functools.cache
def model_of(setup: str) -> MPlusModel:
    """A tiny model by the name of its setup."""
    real = os.environ.get(REAL)
    if real and setup == "shared":
        return MPlusModel.from_pretrained(real)
    return tiny.tiny_model("llama", setup)


@functools.cache
def text_model() -> MPlusModel:
    """A tiny model that reads text."""
    return tiny.text_model()


def store_text_model(directory: Path) -> str:
    """The tiny model that reads text, as a directory that ``mplus --model`` takes."""
    text_model().save_pretrained(directory, include_base=True)
    return str(directory)


def forget() -> None:
    """Build models anew: what an attack left on the old ones must not count twice."""
    model_of.cache_clear()
    text_model.cache_clear()


def answer(model: MPlusModel, memory: Memory | None, prompt: list[int], tokens: int = 6, **options: Any) -> list[int]:
    """The new tokens behind a prompt of ids."""
    ids = model.generate(prompt, memory=memory, max_new_tokens=tokens, do_sample=False, **options)[0].tolist()
    return [int(token) for token in ids[len(prompt) :]]


def bare_answer(model: MPlusModel, prompt: list[int], tokens: int = 4) -> list[int]:
    """The new tokens of the stock decoder, nothing of ours on."""
    with model.untouched() as stock:
        decoder: Any = stock
        found = decoder.generate(torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False)[0].tolist()
    return [int(token) for token in found[len(prompt) :]]


def ids(count: int, seed: int) -> list[int]:
    """Random token ids."""
    return [int(token) for token in tiny.ids(count, seed).tolist()]


def use_small_segments() -> None:
    """Have a store in a directory write a segment every few rows, as it does every few thousand of a real model."""
    from mplus.memory.stores import disk

    for name, value in (("SEGMENT_ROWS", 8), ("MOST_SEGMENT_ROWS", 8), ("SEGMENT_BYTES", 1)):
        if hasattr(disk, name):
            setattr(disk, name, value)
