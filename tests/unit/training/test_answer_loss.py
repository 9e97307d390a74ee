"""Training sees a memory exactly as a read does: the same states, the same loss, the same next words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mplus import Memory, MPlusModel
from mplus.attach.query_pass import query_states
from mplus.training.objectives.answer_loss import AnswerLoss, answer_loss, by_length, joined, padded, read_states
from tests.tiny import filled, ids, tiny_model


@pytest.fixture
def model() -> MPlusModel:
    return tiny_model("llama", "best_last")


def rows_read(model: MPlusModel, memory: Memory, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [L, P, H, E] of what a prompt [T] reads, in reading order, put together by hand."""
    text = torch.ones(1, len(prompt), dtype=torch.bool)
    retriever = model.parts.retriever
    assert retriever is not None
    found = retriever.search(memory, query_states(model.parts, retriever.layers, prompt[None], text), text)[0]
    names, pool = ("keys", "values"), memory.short_term.at_slots(memory.short_term.order)
    long = memory.long_term.gather(0, found.indices, names)
    left = [rank for rank in range(len(memory.short_term)) if rank not in found.short.tolist()]
    out = []
    for name in names:
        drawn = torch.cat([long[name].transpose(0, 1), pool[name][:, found.short]], 1)
        out.append(torch.cat([pool[name][:, left], drawn if found.order is None else drawn[:, found.order]], 1))
    return out[0], out[1]


def test_training_states_are_those_of_a_read(model: MPlusModel) -> None:
    memory, prompt = filled(model), ids(9, seed=4)
    keys, values = rows_read(model, memory, prompt)
    mask = torch.ones(1, len(prompt), dtype=torch.int64)
    with torch.no_grad():
        states = read_states(model, prompt[None], mask, lambda layer: (keys[layer][None], values[layer][None]), keys.shape[1])
        logits = model.parts.decoder.model.lm_head(states)
    torch.testing.assert_close(logits, model(prompt[None], memory=memory).logits, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_mean_over_answer_tokens_and_padding_changes_nothing(model: MPlusModel) -> None:
    memory = filled(model)
    prompts, answers = [ids(5, seed=1).tolist(), ids(9, seed=2).tolist()], [ids(3, seed=3).tolist(), ids(2, seed=4).tolist()]
    keys, values = rows_read(model, memory, ids(5, seed=1))
    both = (keys[:, None].expand(-1, 2, -1, -1, -1), values[:, None].expand(-1, 2, -1, -1, -1))
    with torch.no_grad():
        got = answer_loss(model, prompts, answers, lambda layer: (both[0][layer], both[1][layer]), keys.shape[1])
        losses: list[Tensor] = []
        for prompt, answer in zip(prompts, answers, strict=True):
            row, mask, _ = padded([prompt], [answer])
            states = read_states(model, row, mask, lambda layer: (keys[layer][None], values[layer][None]), keys.shape[1])
            logits = model.parts.decoder.model.lm_head(states)[0, len(prompt) - 1 : -1]
            losses += list(functional.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    torch.testing.assert_close(got.loss, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    assert got.tokens == 5 + 3 + 9 + 2
    groups = by_length(prompts, answers, 1)
    with torch.no_grad():
        alone = [
            answer_loss(
                model, [prompts[row]], [answers[row]], lambda layer: (keys[layer][None], values[layer][None]), keys.shape[1]
            )
            for (row,) in groups
        ]
    again = joined(alone, groups)
    torch.testing.assert_close(again.loss, got.loss, atol=1e-5, rtol=1e-5)


def test_groups_hold_every_row_once_in_the_order_of_lengths() -> None:
    prompts, answers = [[0] * length for length in (9, 2, 7, 4, 5)], [[0]] * 5
    groups = by_length(prompts, answers, 2)
    assert groups == [[1, 3], [4, 2], [0]]
    exact = torch.tensor([True, False, True, False, True])
    parts = [AnswerLoss(torch.tensor(1.0), exact[rows], 0, len(rows)) for rows in groups]
    assert joined(parts, groups).exact.tolist() == exact.tolist()


def test_a_bare_prompt_needs_no_memory(model: MPlusModel) -> None:
    prompt, answer = ids(6, seed=5).tolist(), ids(2, seed=6).tolist()
    with torch.no_grad(), model.parts.adapters.on(model.parts.adapters.read):
        got = answer_loss(model, [prompt], [answer])
        logits = model.parts.decoder.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    torch.testing.assert_close(got.loss, functional.cross_entropy(logits, torch.tensor(answer)), atol=1e-5, rtol=1e-5)
    assert got.exact.tolist() == [bool((logits.argmax(-1) == torch.tensor(answer)).all())]
