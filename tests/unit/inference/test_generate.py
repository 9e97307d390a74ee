"""Laws of generation: every argument of transformers keeps its meaning, memory or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from mplus import Memory, MPlusModel
from mplus.errors import InputError, PromptTooLongError
from tests.tiny import filled, ids


@pytest.fixture(params=[0, 1], ids=["nothing waits", "a token waits"])
def memory(request: pytest.FixtureRequest, model: MPlusModel) -> Memory:
    """A memory with long-term rows, once with text that waits."""
    found = filled(model, tokens=60, write_context="memory")
    if request.param:
        found.write(ids(request.param, 50))
        assert found.pending_tokens
    return found


def greedy(model: MPlusModel, memory: Memory, **options: Any) -> list[int]:
    got = model.generate(ids(5, 70), memory=memory, do_sample=False, **options)
    return got[0].tolist()  # type: ignore[no-any-return]


def test_generation_config_means_what_its_fields_mean_as_arguments(model: MPlusModel, memory: Memory) -> None:
    count = 70
    config = GenerationConfig(max_new_tokens=count, pad_token_id=0)
    assert greedy(model, memory, generation_config=config) == greedy(model, memory, max_new_tokens=count)


def test_max_length_counts_the_prompt_and_nothing_else(model: MPlusModel, memory: Memory) -> None:
    assert greedy(model, memory, max_length=12) == greedy(model, memory, max_new_tokens=7)


def test_stated_room_counts_towards_the_positions(model: MPlusModel, memory: Memory) -> None:
    for options in ({"max_new_tokens": 500}, {"max_length": 505}, {"generation_config": GenerationConfig(max_new_tokens=500)}):
        with pytest.raises(PromptTooLongError, match="500 new tokens"):
            model.generate(ids(5, 70), memory=memory, **options)


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"max_length": 5}, {"max_new_tokens": -3}])
def test_no_room_for_an_answer_is_refused(model: MPlusModel, memory: Memory, options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="nothing to generate"):
        model.generate(ids(5, 70), memory=memory, **options)


def test_prompt_lookup_gives_what_greedy_gives(model: MPlusModel, memory: Memory) -> None:
    assert greedy(model, memory, max_new_tokens=20, prompt_lookup_num_tokens=3) == greedy(model, memory, max_new_tokens=20)


def test_generation_stops_at_the_end_of_sequence(model: MPlusModel, memory: Memory) -> None:
    free = greedy(model, memory, max_new_tokens=12)
    stop = free[8]
    stopped = greedy(model, memory, max_new_tokens=12, eos_token_id=stop)
    assert stopped == free[: free.index(stop, 5) + 1]


def test_dictionary_results_hold_the_prompt_without_what_waits(model: MPlusModel, memory: Memory) -> None:
    out = model.generate(
        ids(5, 70), memory=memory, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    assert out.sequences[0].tolist() == greedy(model, memory, max_new_tokens=4)
    assert [int(step[0].argmax()) for step in out.logits] == out.sequences[0, 5:].tolist()


def test_beams_return_as_many_sequences_as_asked_best_first(model: MPlusModel, memory: Memory) -> None:
    options: dict[str, Any] = {"max_new_tokens": 4, "num_beams": 4, "do_sample": False}
    several = model.generate(ids(5, 70), memory=memory, num_return_sequences=3, **options)
    best = model.generate(ids(5, 70), memory=memory, **options)
    assert several.shape == (3, 9)
    assert several[0].tolist() == best[0].tolist()
    assert (several[:, :5] == ids(5, 70)).all()


def test_penalties_see_the_prompt(model: MPlusModel, memory: Memory) -> None:
    got = greedy(model, memory, max_new_tokens=15, no_repeat_ngram_size=1)
    assert len(set(got)) == len(got) == 20


def test_generation_without_memory_is_the_bare_base(model: MPlusModel) -> None:
    prompt = ids(5, 70)[None]
    with model.untouched() as base:
        decoder: Any = base
        expected = decoder.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False, pad_token_id=0
        )
    assert torch.equal(model.generate(prompt, max_new_tokens=6, do_sample=False), expected)
