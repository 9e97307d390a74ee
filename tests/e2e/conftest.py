"""The real base model, where `mplus fetch` (called by `make setup`) has put it."""

from __future__ import annotations

import os

import pytest

from mplus.checkpoints.base_models.base import locate
from mplus.errors import BaseModelMissingError


@pytest.fixture(scope="session")
def base_name() -> str:
    """Name of the default base; without its weights these tests skip, in CI they fail."""
    try:
        locate("smollm2-135m")
    except BaseModelMissingError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"needs the base model: {missing}")
    return "smollm2-135m"
