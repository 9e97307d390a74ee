"""Fewer memory tokens than text tokens with the input tap: which are kept, and what the memory then knows of them."""

from __future__ import annotations

import pytest
import torch

from mplus.settings import MemoryFormat
from tests import tiny


@pytest.mark.parametrize(("kept", "chunk", "text", "expected"), [
    (8, 8, 5, [0, 1, 2, 3, 4]),
    (4, 8, 8, [1, 3, 5, 7]),
    (4, 8, 5, [1, 3, 4]),
    (2, 8, 8, [3, 7]),
    (2, 8, 1, [0]),
    (3, 8, 8, [1, 4, 7]),
    (16, 8, 3, [0, 1, 2]),
])  # fmt: skip
def test_the_last_of_each_group_is_kept(kept: int, chunk: int, text: int, expected: list[int]) -> None:
    geometry = tiny.tiny_geometry(new_tokens=kept, chunk_tokens=chunk, stm_tokens=32)
    assert geometry.sizes.kept_positions(text) == expected
    if kept < chunk:
        assert len(expected) == -(-text * kept // chunk)


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
@pytest.mark.parametrize("setup", ["shared", "per_layer"])
def test_kept_rows_are_those_of_the_uncompressed_write(setup: str, memory_format: MemoryFormat) -> None:
    whole, half = tiny.tiny_model("llama", setup), tiny.tiny_model("llama", setup, new_tokens=4)
    text = tiny.ids(7)
    memories = [model.new_memory(memory_format=memory_format) for model in (whole, half)]
    full, few = (model.encode(text, memory) for model, memory in zip((whole, half), memories, strict=True))
    assert few.tokens == 4 and full.tokens == 7
    for name, value in few.rows.items():
        torch.testing.assert_close(value, full.rows[name][:, [1, 3, 5, 6]])


def test_every_memory_token_knows_its_chunk() -> None:
    model = tiny.tiny_model("llama", "shared", new_tokens=4, drop_tokens=4)
    memory = model.new_memory()
    for number, length in enumerate((8, 5, 8, 3, 8, 8)):
        memory.write(tiny.ids(length, number), source=f"text {number}")
    chunks = memory.ledger.chunks
    assert [chunk.rows for chunk in chunks] == [4, 3, 4, 2, 4, 4]
    assert memory.now == 21 and len(memory.short_term) <= 16 and len(memory.long_term) > 0
    found = [memory.ledger.chunk_of(birth) for birth in range(21)]
    assert [chunk.sources[0][0] for chunk in found if chunk is not None][6] == "text 1"
    assert model(tiny.ids(4)[None], memory=memory).logits.isfinite().all()
