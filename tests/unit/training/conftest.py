"""Training data for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training_data import write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _no_large_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mplus.training.data.document_generator.DOCUMENTED_PACKAGES", ())
