"""Laws of attention on a CPU: the same numbers as with a copy of keys and values per head, and a head that multiplies at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mplus import MPlusModel
from mplus.attach.attention import grouped
from mplus.inference.prefill import Prefill
from tests.tiny import filled, ids, text_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_grouped_attention_equals_attention_with_repeated_keys(dtype: torch.dtype, tokens: int, groups: int) -> None:
    torch.manual_seed(groups)
    query = torch.randn(4, 6, tokens, 8, dtype=dtype)
    key, value = torch.randn(2, 4, groups, 11, 8, dtype=dtype)
    mask = torch.zeros(4, 1, tokens, 11, dtype=dtype)
    for row in range(4):
        mask[row, :, :, :row] = float("-inf")
    keys, values = (one.repeat_interleave(6 // groups, 1).float() for one in (key, value))
    expected = functional.scaled_dot_product_attention(query.float(), keys, values, attn_mask=mask.float(), scale=0.3)
    got, _ = grouped(None, query, key, value, mask, scaling=0.3)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got.float(), expected.transpose(1, 2), atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return text_model()


@pytest.mark.parametrize("way", ["prefill", "generate"])
def test_the_head_gets_the_last_states_in_one_piece(model: MPlusModel, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    head = model.parts.decoder.model.get_output_embeddings()
    forward, strides = head.forward, list[tuple[int, ...]]()

    def seen(states: Tensor, *given: Any) -> Tensor:
        if states.shape[1] == 1:
            strides.append(states.stride())
        out: Tensor = forward(states, *given)
        return out

    monkeypatch.setattr(head, "forward", seen)
    memory, row = filled(model), ids(9, seed=4)
    if way == "prefill":
        prompt = Prefill(model.reader, [row.tolist()], [memory], new_tokens=2)
        while not prompt.is_done:
            prompt.advance(100)
        prompt.release()
    else:
        model.generate(row[None], memory=memory, max_new_tokens=2)
    width = model.parts.decoder.config.hidden_size
    assert strides
    assert all(one == (width, width, 1) for one in strides)
    assert not head._forward_pre_hooks
