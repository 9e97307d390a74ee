"""However many heads, however wide: a read is plain reading, down to one token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import MPlusModel
from tests.contract.plain import Plain
from tests.tiny import FAMILIES, SETUPS, filled, ids, tiny_decoder, tiny_geometry, tiny_model

SHAPES: dict[str, dict[str, Any]] = {
    "one kv head": {"num_key_value_heads": 1},
    "half the kv heads": {"num_key_value_heads": 2},
    "all kv heads": {"num_key_value_heads": 4},
    "one head": {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 32},
    "one wide kv head": {"num_key_value_heads": 1, "head_dim": 24},
    "narrow heads": {"num_key_value_heads": 2, "head_dim": 4},
    "as many kv heads as numbers in one": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4},
    "biases": {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
    "tied head": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "one layer": {"num_key_value_heads": 1, "layers": 1},
}


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("shape", SHAPES)
def test_reading_a_text_from_memory_is_reading_it_plainly(family: str, shape: str) -> None:
    base = tiny_decoder(family, **SHAPES[shape])
    geometry = tiny_geometry(chunk_tokens=32, new_tokens=32, stm_tokens=64, min_write_tokens=1)
    texts, prompts = [ids(count, 3) for count in (1, 2, 4, 8, 30)], [ids(count, 4) for count in (1, 5)]
    plain = {}
    for text in texts:
        for prompt in prompts:
            with torch.no_grad():
                whole = base(torch.cat([torch.tensor([1]), text, prompt])[None]).logits[0]
            plain[len(text), len(prompt)] = whole[-len(prompt) :]
    model = MPlusModel.from_base(base, geometry=geometry)
    for memory_format in ("kv", "hidden"):
        for text in texts:
            memory = model.new_memory(memory_format=memory_format)
            memory.write(text)
            for prompt in prompts:
                close(model(prompt[None], memory=memory).logits[0], plain[len(text), len(prompt)])


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_searched_memory_equals_plain_concatenation(family: str, setup: str, kv_heads: int) -> None:
    model = tiny_model(family, setup, config={"num_key_value_heads": kv_heads}, min_write_tokens=1)
    memory, prompt = filled(model, tokens=60, memory_format="hidden"), ids(6, 23)
    close(model(prompt[None], memory=memory).logits[0], Plain(model).read(prompt, memory).logits)
    tail = memory.short_term.newest(model.geometry.sizes.new_tokens)["hidden"]
    for count in (1, 2, 5):
        chunk = ids(count, 24)
        written = model.encode(chunk, memory)
        assert written.hidden is not None
        close(written.hidden, Plain(model).write(chunk, tail))
    kv = filled(model, tokens=60, memory_format="kv")
    kv.write(ids(1, 25))
    memory.write(ids(1, 25))
    close(model(prompt[None], memory=kv).logits, model(prompt[None], memory=memory).logits)
