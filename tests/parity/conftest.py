"""One model per checkpoint and setting for the whole session; the largest deviations at its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mplus import MPlusModel
from tests.parity.recorded import CaseRef, Deviations, discover, parity_dir

DEVIATIONS = Deviations()
OpenModel = Callable[..., MPlusModel]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every recorded case in both memory formats; one empty case where there is no data."""
    if "ref" in metafunc.fixturenames:
        refs: list[CaseRef] = discover(parity_dir())
        metafunc.parametrize("memory_format", ["hidden", "kv"])
        if refs:
            metafunc.parametrize("ref", refs, ids=str)
        else:
            metafunc.parametrize("ref", [None], ids=["no-data"])


@pytest.fixture(scope="session")
def deviations() -> Deviations:
    return DEVIATIONS


@pytest.fixture(scope="session")
def open_model() -> OpenModel:
    """``open_model(checkpoint, **geometry)``, each combination once."""
    models: dict[Any, MPlusModel] = {}

    def opened(checkpoint: Path, **geometry: Any) -> MPlusModel:
        key = (checkpoint, tuple(sorted(geometry.items())))
        if key not in models:
            models[key] = MPlusModel.from_pretrained(checkpoint, dtype="float32", device="cpu", **geometry)
        return models[key]

    return opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not DEVIATIONS.cases:
        return
    terminalreporter.section(f"parity with {parity_dir()}")
    for key, count in sorted(DEVIATIONS.cases.items()):
        value, where = DEVIATIONS.largest.get(key, (0.0, "only whole numbers"))
        terminalreporter.write_line(f"{key[0]:<24} {key[1]:<7} {count:>3} cases, largest deviation {value:.2e}  ({where})")
    for name, tensors in sorted(DEVIATIONS.not_compared.items()):
        terminalreporter.write_line(f"not compared: {name}: {', '.join(tensors)}")
