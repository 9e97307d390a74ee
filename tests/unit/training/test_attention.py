"""The training attention is exact softmax attention."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mplus.attach.attention import register_training


def test_grouped_attention_equals_eager_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    ids, mask = torch.randint(0, 50, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[0, :4] = 0
    results = []
    for name in ("eager", register_training()):
        model.set_attn_implementation(name)
        model.zero_grad()
        logits = model(input_ids=ids, attention_mask=mask).logits[:, 4:]
        logits.square().mean().backward()
        results.append((logits.detach(), [value.grad.clone() for value in model.parameters() if value.grad is not None]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for one, other in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
