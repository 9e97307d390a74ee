"""Laws of measured attention: it is that of transformers' eager attention, for every family, and measuring changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.attach.attention_mass import AttentionMass
from mplus.attach.hooks import Hooks
from tests.tiny import FAMILIES, filled, ids, tiny_model

NEW = 5


def measured(
    model: MPlusModel, memory: Memory, prompts: Tensor, ends: tuple[int, ...] = (), **options: Any
) -> tuple[Any, AttentionMass]:
    """A result of transformers' generate, and what was measured meanwhile."""
    reader, decoder = model.reader, model.parts.decoder
    with (
        reader.request(reader.prompts_of(prompts), memory) as request,
        reader.open(request, new_tokens=NEW) as (reading, own),
        Hooks() as hooks,
    ):
        assert reading is not None
        mass = AttentionMass(reading.prefix_pass, ends)
        mass.install(hooks)
        net: Any = decoder.model
        options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **options}
        return net.generate(request.prompts.ids, **own, **options), mass


def eager(result: Any, prefix: int, row: int) -> Tensor:
    """[L, P] mean over steps and heads of the weights that transformers gives."""
    steps = [torch.stack([layer[row, :, -1, :prefix].mean(0) for layer in step]) for step in result.attentions]
    return torch.stack(steps).mean(0)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("setup", ["best_last", "per_layer"])
def test_mass_is_what_eager_attention_gives(family: str, setup: str) -> None:
    model = tiny_model(family, setup, attention="eager")
    memory = filled(model)
    prompts = torch.stack([ids(5, 70), ids(5, 71)])
    result, mass = measured(model, memory, prompts, output_attentions=True, return_dict_in_generate=True)
    for row in range(2):
        torch.testing.assert_close(mass.mean()[row], eager(result, mass.prefix, row), rtol=1e-4, atol=1e-6)
    assert float(mass.mean().sum(-1).max()) < 1


@pytest.mark.parametrize("setup", ["best_last", "recent", "per_layer", "output"])
def test_mass_does_not_depend_on_the_kind_of_attention_and_changes_no_answer(setup: str) -> None:
    plain, fused = tiny_model(setup=setup, attention="eager"), tiny_model(setup=setup)
    prompts = torch.stack([ids(5, 70), ids(5, 71)])
    _, slow = measured(plain, filled(plain), prompts)
    memory = filled(fused)
    result, fast = measured(fused, memory, prompts)
    torch.testing.assert_close(fast.mean(), slow.mean(), rtol=1e-3, atol=1e-5)
    alone = fused.generate(prompts, memory=memory, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    assert torch.equal(result[:, -NEW:], alone[:, -NEW:])


def test_a_finished_row_is_not_counted_any_more() -> None:
    model = tiny_model(setup="best_last")
    memory = filled(model)
    free, _ = measured(model, memory, ids(5, 70)[None])
    end = int(free[0, 6])  # the second token of the answer
    stopped, alone = measured(model, memory, ids(5, 70)[None], (end,), eos_token_id=end)
    assert stopped.shape[1] == 7
    other = next(seed for seed in range(71, 120) if end not in measured(model, memory, ids(5, seed)[None])[0][0, 5:].tolist())
    both, together = measured(model, memory, torch.stack([ids(5, 70), ids(5, other)]), (end,), eos_token_id=end)
    assert both.shape[1] == 5 + NEW
    torch.testing.assert_close(together.mean()[0], alone.mean()[0], rtol=1e-4, atol=1e-6)


def test_samples_of_a_prompt_are_averaged() -> None:
    model = tiny_model(setup="best_last")
    memory = filled(model)
    torch.manual_seed(5)
    sampled, mass = measured(
        model, memory, ids(5, 70)[None], num_return_sequences=2, do_sample=True, return_dict_in_generate=True
    )
    assert sampled.sequences.shape[0] == 2 and mass.mean().shape[0] == 1
    assert 0 < float(mass.mean().sum(-1).min()) <= float(mass.mean().sum(-1).max()) < 1


def test_hooks_are_gone_afterwards() -> None:
    model = tiny_model(setup="best_last")
    measured(model, filled(model), ids(5, 70)[None])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.parts.decoder.model.modules())
