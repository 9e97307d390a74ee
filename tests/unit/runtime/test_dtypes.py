"""Laws of the number type: what is named is taken, `auto` is what the machine computes faster, and says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from mplus.errors import InputError
from mplus.runtime import dtypes

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    dtypes._fastest.cache_clear()
    yield
    dtypes._fastest.cache_clear()


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_named_type_is_taken(name: str) -> None:
    assert dtypes.resolve_dtype(name, CPU) is getattr(torch, name)
    assert dtypes.resolve_dtype(getattr(torch, name), CPU) is getattr(torch, name)


def test_unknown_type_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="auto, float32, bfloat16, float16"):
        dtypes.resolve_dtype("int4", CPU)


def test_processor_with_matrix_units_gets_bfloat16(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(dtypes, "_cpu_flags", lambda: {"sse", "amx_bf16"})
    with caplog.at_level(logging.INFO, "mplus"):
        assert dtypes.resolve_dtype("auto", CPU) is torch.bfloat16
    assert "amx_bf16" in caplog.text


@pytest.mark.parametrize(("half_s", "chosen"), [(2.0, torch.float32), (0.95, torch.float32), (0.5, torch.bfloat16)])
def test_other_processors_are_measured_once(
    half_s: float, chosen: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    measured: list[torch.dtype] = []

    def seconds(dtype: torch.dtype) -> float:
        measured.append(dtype)
        return half_s if dtype is torch.bfloat16 else 1.0

    monkeypatch.setattr(dtypes, "_cpu_flags", lambda: {"sse", "avx512_bf16"})
    monkeypatch.setattr(dtypes, "_seconds", seconds)
    with caplog.at_level(logging.INFO, "mplus"):
        assert {dtypes.resolve_dtype("auto", CPU) for _ in range(3)} == {chosen}
    assert len(measured) == 2
    assert "measured" in caplog.text


def test_this_machine_can_be_measured() -> None:
    assert dtypes._seconds(torch.float32) > 0
    assert dtypes.resolve_dtype("auto", CPU) in (torch.float32, torch.bfloat16)
