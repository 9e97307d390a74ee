"""Laws of number types: a model in bfloat16 writes, finds, reads, stores and answers close to its float32 twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.settings import MemoryFormat
from tests import tiny
from tests.tiny import SETUPS, contents, filled, ids

pytestmark = pytest.mark.slow


def opened(tmp_path: Path, setup: str, dtype: str) -> MPlusModel:
    """The same stored model in the number type asked for."""
    if not (tmp_path / "m").exists():
        tiny.tiny_decoder().bfloat16().save_pretrained(tmp_path / "base")
        fields, parts = SETUPS[setup]
        geometry = tiny.tiny_geometry(**fields)
        made = MPlusModel.from_base(tmp_path / "base", geometry=geometry, dtype="float32", device="cpu", **parts)
        made.save_pretrained(tmp_path / "m")
    return MPlusModel.from_pretrained(tmp_path / "m", dtype=dtype, device="cpu")


@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
@pytest.mark.parametrize("setup", sorted(SETUPS))
def test_bfloat16_model_does_all_that_a_float32_model_does(tmp_path: Path, setup: str, memory_format: MemoryFormat) -> None:
    half, full = opened(tmp_path, setup, "bfloat16"), opened(tmp_path, setup, "float32")
    memory = filled(half, tokens=20, memory_format=memory_format)
    twin = filled(full, tokens=20, memory_format=memory_format)
    prompt = ids(6, 1)[None]
    got, expected = half(prompt, memory=memory).logits, full(prompt, memory=twin).logits
    assert got.dtype is torch.bfloat16
    assert torch.nn.functional.cosine_similarity(got.float().flatten(), expected.flatten(), dim=0) > 0.99
    memory.write(ids(60, 2))
    assert all(
        value.dtype in (torch.bfloat16, torch.int64)
        for name, value in contents(memory).items()
        if name[:3] in ("stm", "ltm") and not name.endswith("frequency")
    )
    memory.save(tmp_path / "anna")
    loaded = Memory.load(tmp_path / "anna", half)
    first, second = (half.generate(prompt, memory=one, max_new_tokens=4, do_sample=False) for one in (memory, loaded))
    assert torch.equal(first, second)


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_memory_opens_in_another_number_type(tmp_path: Path, setup: str, memory_format: MemoryFormat) -> None:
    half, full = opened(tmp_path, setup, "bfloat16"), opened(tmp_path, setup, "float32")
    assert half.fingerprint == full.fingerprint
    for writer, reader in ((half, full), (full, half)):
        filled(writer, memory_format=memory_format).save(tmp_path / "anna")
        memory = Memory.load(tmp_path / "anna", reader)
        memory.write(ids(20, 3))
        assert reader(ids(5, 4)[None], memory=memory).logits.isfinite().all()


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("store", ["ram", "disk"])
@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_long_term_memory_may_be_kept_in_half_the_bytes(
    tmp_path: Path, setup: str, store: str, memory_format: MemoryFormat
) -> None:
    model = opened(tmp_path, setup, "float32")
    options: dict[str, Any] = {"memory_format": memory_format, "store": "ram" if store == "ram" else tmp_path / "rows"}
    memory = filled(model, tokens=60, ltm_dtype="bfloat16", **options)
    whole = filled(model, tokens=60, memory_format=memory_format)
    fields = memory.codec.fields
    assert {fields[name][1] for name in fields if name in ("keys", "values", "hidden")} == {torch.bfloat16}
    assert fields["search"][1] is torch.float32, "search keys are compared with every prompt and stay as they are"
    assert 0.5 < memory.long_term.size_bytes / whole.long_term.size_bytes < 0.75
    prompt = ids(6, 1)[None]
    got, expected = model(prompt, memory=memory).logits, model(prompt, memory=whole).logits
    assert got.dtype is torch.float32
    assert torch.nn.functional.cosine_similarity(got.flatten(), expected.flatten(), dim=0) > 0.99
    memory.save(tmp_path / "anna")
    assert torch.equal(model(prompt, memory=Memory.load(tmp_path / "anna", model)).logits, got)
