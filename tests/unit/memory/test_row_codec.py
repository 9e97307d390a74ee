"""Laws of the number types of long-term rows: int8 to half a level, the twin row by row, bytes, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus.errors import GeometryError
from mplus.memory.row_codec import LEVELS, RowCodec, dequantise, quantise
from mplus.memory.rows import RowLayout
from mplus.memory.stores.fields import bytes_per_row
from tests.tiny import tiny_geometry, tiny_model


def plain(row: Tensor) -> tuple[list[int], float]:
    """Levels and scale of one row, number by number."""
    scale = float((row.abs().max() / LEVELS).to(torch.bfloat16))
    return [max(-LEVELS, min(LEVELS, round(float(torch.tensor(number) / scale)))) for number in row.flatten().tolist()], scale


@pytest.mark.parametrize("magnitude", [1e-30, 1e-3, 1.0, 1e4, 1e30])
def test_rounding_is_that_of_each_row_alone_and_half_a_level_at_most(magnitude: float) -> None:
    rows = torch.randn(7, 2, 3, 5, generator=torch.Generator().manual_seed(0)) * magnitude
    levels, scale = quantise(rows, 2)
    assert levels.dtype is torch.int8 and scale.shape == (7, 2)
    for token in range(7):
        for layer in range(2):
            wanted, step = plain(rows[token, layer])
            assert (levels[token, layer].flatten().tolist(), float(scale[token, layer])) == (wanted, step)
    error = (dequantise(levels, scale, 2, torch.float32) - rows).abs()
    assert bool((error <= 0.5001 * scale.float()[..., None, None]).all())


def test_rows_of_zeros_stay_zeros_and_what_is_not_finite_shows() -> None:
    rows = torch.ones(3, 4)
    rows[0], rows[1, 2], rows[2, 1] = 0.0, float("nan"), float("inf")
    back = dequantise(*quantise(rows, 1), 1, torch.float32)
    assert back[0].tolist() == [0.0] * 4
    assert not back[1:].isfinite().any()


def test_a_number_and_its_negative_round_alike() -> None:
    rows = torch.randn(20, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(quantise(rows, 1)[0], -quantise(-rows, 1)[0])


MID = {"layers": 8, "heads": (4, 64), "search": 32, "groups": 8, "retrieval": "per_layer"}
SMOLLM2 = {"layers": 30, "heads": (3, 64), "search": 384, "groups": 1, "retrieval": "shared"}
LITERAL_MID_BYTES = 4 * 512 + 4 * 32 + 8 + 4  # paper: hidden state and search key in float32, age, recall frequency


def token_layer_bytes(shape: dict[str, Any], ltm_dtype: str, search: str) -> float:
    """Stored bytes of one token, all layers, over the number of layers; a float32 model."""
    layout = RowLayout(
        format="kv",
        layers=shape["layers"],
        fields={"keys": shape["heads"], "values": shape["heads"], "search": (shape["search"],)},
        search_groups=shape["groups"],
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    geometry = tiny_geometry(retrieval=shape["retrieval"], ltm_dtype=ltm_dtype, ltm_search_dtype=search)
    layers: int = shape["layers"]
    return bytes_per_row(RowCodec(layout, geometry).fields) / layers


@pytest.mark.parametrize(
    ("ltm_dtype", "search", "mid_bytes", "smollm2_bytes"),
    [
        ("model", "model", 2176, 47616),
        ("bfloat16", "model", 1152, 24576),
        ("bfloat16", "bfloat16", 1088, 23808),
        ("bfloat16", "int8", 1058, 23426),
        ("int8", "model", 644, 13176),
        ("int8", "bfloat16", 580, 12408),
        ("int8", "int8", 550, 12026),
    ],
)
def test_bytes_of_a_token_are_those_of_all_its_fields(ltm_dtype: str, search: str, mid_bytes: int, smollm2_bytes: int) -> None:
    """K and V, their scales, search key, its scale: `mid` per token and layer, `smollm2-135m` per token, float32 models."""
    assert token_layer_bytes(MID, ltm_dtype, search) == mid_bytes
    assert token_layer_bytes(SMOLLM2, ltm_dtype, search) == pytest.approx(smollm2_bytes / 30)


def test_half_of_the_literal_bytes_with_16_bits_and_27_percent_with_int8() -> None:
    assert token_layer_bytes(MID, "bfloat16", "int8") <= 0.5 * LITERAL_MID_BYTES
    assert token_layer_bytes(MID, "int8", "bfloat16") <= 0.27 * LITERAL_MID_BYTES


def test_int8_of_a_memory_of_hidden_states_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    model = tiny_model()
    with pytest.raises(GeometryError, match=r"'int8' .* format 'hidden'.*choose memory_format='kv', or ltm_dtype='bf") as caught:
        model.new_memory(memory_format="hidden", ltm_dtype="int8", store=tmp_path / "d")
    assert "\n" not in str(caught.value) and not (tmp_path / "d").exists()
    model.new_memory(memory_format="hidden", ltm_search_dtype="int8")


def test_unknown_number_type_is_refused_by_name() -> None:
    for field in ("ltm_dtype", "ltm_search_dtype"):
        with pytest.raises(GeometryError, match=field):
            tiny_geometry(**{field: "int4"})
