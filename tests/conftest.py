"""Tiny models, each built once for the whole session. Nothing here changes a model."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable

import pytest

from mplus import MPlusModel
from tests import tiny

TinyModel = Callable[..., MPlusModel]


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> None:
    """Leave what lives as long as the session (torch, all tests) out of collections of garbage; a training run alone makes two."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    """``tiny_model(family, setup, **geometry)``, see ``tests.tiny``; the same arguments give the same model."""
    return functools.cache(tiny.tiny_model)


@pytest.fixture(scope="session")
def model(tiny_model: TinyModel) -> MPlusModel:
    """Llama, shared drops and retrieval, input tap."""
    return tiny_model("llama", "shared")


@pytest.fixture(scope="session")
def text_model() -> MPlusModel:
    """A tiny model that reads text, one token per byte."""
    return tiny.text_model()
