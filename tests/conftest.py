"""Tiny models, each built once for the whole session. Nothing here changes a model."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from mplus import MPlusModel
from tests import tiny

TinyModel = Callable[..., MPlusModel]


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
