"""Where the best find is among the newest tokens they stay in one piece beside the prompt; else the best find stands there."""

from __future__ import annotations

import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from tests.contract.plain import Plain
from tests.tiny import filled, ids, tiny_model

TEXT = 60


def behind(model: MPlusModel, memory: Memory, prompt: Tensor) -> int:
    """What a read says, after it was compared with plain concatenation."""
    plain = Plain(model)
    expected = plain.read(prompt, memory).logits
    out = model(prompt[None], memory=memory, return_retrieved=True)
    torch.testing.assert_close(out.logits[0], expected, atol=1e-4, rtol=1e-4)
    assert out.retrieved is not None
    found = out.retrieved[0].layers[0]
    assert found.behind == plain.behind
    return found.behind


def test_newest_tokens_stay_whole_where_the_prompt_is_about_them() -> None:
    model = tiny_model("llama", "recent", second_look=0)
    memory = filled(model, tokens=TEXT, memory_format="hidden")
    text = ids(TEXT, 1)
    about_the_newest = behind(model, memory, text[-6:])
    assert model.geometry.recent_tokens <= about_the_newest < model.geometry.recent_tokens + model.geometry.block_tokens
    assert behind(model, memory, text[8:14]) == 0


def test_newest_tokens_are_found_like_others_where_nothing_is_said_of_them() -> None:
    model = tiny_model("llama", "recent", recent_tokens=0)
    memory = filled(model, tokens=TEXT, memory_format="hidden")
    assert behind(model, memory, ids(TEXT, 1)[-6:]) == 0


def test_prompts_of_both_kinds_in_one_batch_equal_one_by_one() -> None:
    model = tiny_model("llama", "recent", second_look=0)
    memory = filled(model, tokens=TEXT)
    prompts = torch.stack([ids(TEXT, 1)[-6:], ids(TEXT, 1)[8:14]])
    together = model(prompts, memory=memory).logits
    alone = torch.cat([model(row[None], memory=memory).logits for row in prompts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
