"""Laws of ageing: time since written, or the published quirk that short-term tokens stand still."""

from __future__ import annotations

import torch

from mplus import MPlusModel
from tests.conftest import TinyModel
from tests.tiny import filled, ids


def test_age_is_the_number_of_memory_tokens_written_since(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "per_layer")
    memory = model.new_memory()
    memory.write(ids(8, 1))
    assert memory.ages(memory.placement.births)[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    memory.write(ids(5, 2))
    assert memory.ages(memory.placement.births)[0].tolist() == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_token_goes_on_ageing_in_long_term_memory(tiny_model: TinyModel) -> None:
    memory = filled(tiny_model("llama", "per_layer"), tokens=80)
    for group in range(memory.long_term.groups):
        ages = torch.cat([memory.ages(memory.long_term.births(group)), memory.ages(memory.placement.births[group])])
        assert sorted(ages.tolist()) == list(range(80))


def test_what_is_read_is_told_with_its_age_oldest_first(model: MPlusModel) -> None:
    memory = filled(model, tokens=80)
    out = model(ids(5, 3)[None], memory=memory, return_retrieved=True)
    assert out.retrieved is not None
    found = out.retrieved[0].layers[0]
    births = memory.long_term.births(0)[found.indices]
    assert found.ages.tolist() == (79 - births).tolist()
    assert (found.ages.diff() < 0).all()


def test_frozen_short_term_tokens_keep_their_age_and_age_in_long_term_memory(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "output", stm_ages="frozen")
    memory = model.new_memory()
    ages: list[list[int]] = [[] for _ in range(2)]  # per layer: a plain twin of the published rule
    stored: list[list[int]] = [[] for _ in range(2)]
    for step in range(9):
        written = model.encode(ids(12, step), memory)
        excess = max(0, len(memory.short_term) + 8 - 16)
        ranks = torch.stack([torch.randperm(16)[:excess].sort().values for _ in range(2)]) if excess else None
        memory.update(written, dropped=ranks)
        for layer in range(2):
            gone = ranks[layer].tolist() if ranks is not None else []
            stored[layer] = [age + 8 for age in stored[layer]] + [ages[layer][rank] for rank in gone]
            ages[layer] = [age for rank, age in enumerate(ages[layer]) if rank not in gone] + list(range(7, -1, -1))
            assert memory.ages(memory.placement.births[layer]).tolist() == ages[layer]
            assert memory.ages(memory.long_term.births(layer)).tolist() == stored[layer]
