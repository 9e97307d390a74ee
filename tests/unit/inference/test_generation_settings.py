"""Laws of generation settings: all sources are read in one place; what cannot be done with a memory is refused by name."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, MaxLengthCriteria, StoppingCriteriaList, TextStreamer

from mplus import Memory, MPlusModel
from mplus.errors import InputError, PromptTooLongError
from mplus.inference.generation import CHAT_TOKENS, NOT_WITH_MEMORY
from tests.tiny import byte_tokenizer, filled, ids, text_model, tiny_decoder, tiny_geometry, tiny_model

PROMPT = ids(5, 70)


@pytest.fixture(scope="module", params=["shared", "per_layer"])
def own(request: pytest.FixtureRequest) -> MPlusModel:
    """A model of this module's own: its generation config is changed."""
    return tiny_model(setup=request.param)


@pytest.fixture
def files(own: MPlusModel) -> Iterator[GenerationConfig]:
    """What the model's files say; put back."""
    decoder: Any = own.parts.decoder.model
    before, decoder.generation_config = decoder.generation_config, copy.deepcopy(decoder.generation_config)
    yield decoder.generation_config
    decoder.generation_config = before


@pytest.fixture(scope="module", params=[0, 1], ids=["nothing waits", "a token waits"])
def memory(request: pytest.FixtureRequest, own: MPlusModel) -> Memory:
    found = filled(own, tokens=60, write_context="memory")
    if request.param:
        found.write(ids(request.param, 50))
        assert found.pending_tokens
    return found


def greedy(model: MPlusModel, memory: Memory | None, **options: Any) -> list[int]:
    got = model.generate(PROMPT, memory=memory, **{"do_sample": False, **options})
    return got[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "said",
    [
        {"use_cache": False},
        {"cache_implementation": "static"},
        {"cache_implementation": "hybrid"},
        {"cache_implementation": "quantized"},
        {"prefill_chunk_size": 2},
        {"guidance_scale": 1.5},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"token_healing": True},
        {"max_length": 3000},
    ],
    ids=str,
)
def test_what_files_ask_for_and_a_read_cannot_do_changes_no_token(
    own: MPlusModel, files: GenerationConfig, memory: Memory, said: dict[str, Any]
) -> None:
    expected = greedy(own, memory, max_new_tokens=10)
    for name, value in said.items():
        setattr(files, name, value)
    assert greedy(own, memory, max_new_tokens=10) == expected


def test_lengths_of_files_are_used(own: MPlusModel, files: GenerationConfig, memory: Memory) -> None:
    files.max_new_tokens = 7
    assert len(greedy(own, memory)) == 12
    files.max_new_tokens, files.max_length = None, 15
    assert len(greedy(own, memory)) == 15
    assert len(greedy(own, memory, max_new_tokens=3)) == 8
    files.max_length = 4  # less than the prompt: no length at all
    assert len(greedy(own, memory)) == 25


@pytest.mark.parametrize("said", [{"max_new_tokens": 2000}, {"max_length": 4096}, {}], ids=str)
def test_a_length_that_no_caller_gave_is_cut_to_the_positions_there_are(said: dict[str, int]) -> None:
    model = MPlusModel.from_base(tiny_decoder(positions=46), geometry=tiny_geometry())
    for name, value in said.items():
        setattr(model.parts.decoder.model.generation_config, name, value)
    memory = filled(model, tokens=60, write_context="memory")
    memory.write(ids(1, 50))
    full = len(greedy(model, memory))
    assert full == 46 - 1 - 24 - memory.pending_tokens
    assert len(greedy(model, memory, max_new_tokens=full - 5)) == full
    with pytest.raises(PromptTooLongError):
        greedy(model, memory, max_new_tokens=full - 4)
    assert len(greedy(model, None)) == (46 if said else 25)


def test_leftover_settings_in_the_model_config_are_no_error(own: MPlusModel, memory: Memory) -> None:
    config = own.parts.decoder.config
    expected = greedy(own, memory, max_new_tokens=4)
    config.temperature = 0.5
    try:
        assert greedy(own, memory, max_new_tokens=4) == expected
    finally:
        del config.temperature


@pytest.mark.parametrize("wrapped", [False, True], ids=["argument", "config"])
@pytest.mark.parametrize(
    ("said", "tokens"),
    [({"max_length": 15}, 15), ({"max_new_tokens": 4}, 9), ({"max_length": 15, "max_new_tokens": 4}, 9), ({}, 25)],
)
def test_a_length_means_the_same_from_every_source(
    own: MPlusModel, memory: Memory, wrapped: bool, said: dict[str, int], tokens: int
) -> None:
    options: dict[str, Any] = {"generation_config": GenerationConfig(**said)} if wrapped else said
    assert len(greedy(own, memory, **options)) == tokens


@pytest.mark.parametrize("said", [{"min_length": 12}, {"min_new_tokens": 7}])
@pytest.mark.parametrize("source", ["argument", "config", "files"])
def test_least_lengths_count_the_prompt_and_nothing_else(
    own: MPlusModel, files: GenerationConfig, memory: Memory, said: dict[str, int], source: str
) -> None:
    stop = greedy(own, memory, max_new_tokens=1)[-1]
    options: dict[str, Any] = {"max_new_tokens": 12, "eos_token_id": list(range(101))}
    assert len(greedy(own, memory, max_new_tokens=12, eos_token_id=[stop])) == 6
    if source == "files":
        for name, value in said.items():
            setattr(files, name, value)
    elif source == "config":
        options = {"generation_config": GenerationConfig(**options, **said)}
    else:
        options |= said
    if source == "files" or source == "argument":
        options["eos_token_id"] = [stop]
        assert len(greedy(own, memory, **options)) >= 12
    else:
        options["generation_config"].eos_token_id = [stop]
        assert len(greedy(own, memory, **options)) >= 12


def test_every_one_of_several_stop_tokens_stops(own: MPlusModel, files: GenerationConfig, memory: Memory) -> None:
    free = greedy(own, memory, max_new_tokens=12)
    files.eos_token_id = [2, free[8]]
    assert greedy(own, memory, max_new_tokens=12) == free[: free.index(free[8], 5) + 1]
    assert greedy(own, memory, max_new_tokens=12, eos_token_id=None) == free


REFUSED: dict[str, Any] = {
    "past_key_values": object(),
    "inputs_embeds": torch.zeros(1, 5, 32),
    "position_ids": torch.arange(5)[None],
    "cache_position": torch.arange(5),
    "guidance_scale": 1.5,
    "negative_prompt_ids": PROMPT[None],
    "negative_prompt_attention_mask": torch.ones(1, 5),
    "cache_implementation": "static",
    "cache_config": {"backend": "quanto"},
    "assistant_early_exit": 1,
    "use_mtp": True,
    "token_healing": True,
    "custom_generate": "someone/code",
}


def test_every_setting_that_cannot_be_used_with_a_memory_has_a_refusal_here() -> None:
    assert set(REFUSED) == set(NOT_WITH_MEMORY)


def test_settings_that_a_read_cannot_do_are_refused_by_name(own: MPlusModel, memory: Memory) -> None:
    for name, value in REFUSED.items():
        with pytest.raises(InputError, match=name):
            greedy(own, memory, max_new_tokens=3, **{name: value})
    assert greedy(own, memory, max_new_tokens=3, **dict.fromkeys(REFUSED)) == greedy(own, memory, max_new_tokens=3)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"max_new_token": 5}, "did you mean 'max_new_tokens'"),
        ({"decoder_input_ids": PROMPT[None]}, "decoder_input_ids"),
        ({"labels": PROMPT[None]}, "labels"),
        ({"is_causal": False}, "is_causal"),
        ({"token_type_ids": torch.ones(1, 5)}, "token_type_ids"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha"),
        ({"dola_layers": "low"}, "dola_layers"),
        ({"num_beam_groups": 2, "num_beams": 2}, "num_beam_groups"),
        ({"force_words_ids": [[5]], "num_beams": 2}, "force_words_ids"),
        ({"streamer": object()}, "streamer"),
        ({"streamer": TextStreamer(byte_tokenizer()), "num_beams": 2}, "streamer"),
        ({"stop_strings": ["a"]}, "stop_strings"),
        ({"generation_config": {"max_new_tokens": 4}}, "generation_config"),
        ({"max_new_tokens": 2.5}, "max_new_tokens"),
        ({"max_new_tokens": True}, "max_new_tokens"),
        ({"max_length": "9"}, "max_length"),
        ({"pad_token_id": 101}, "pad_token_id"),
        ({"temperature": 0.0, "do_sample": True}, "temperature"),
        ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"retrieved": ()}, "retrieved"),
        ({"assistant_model": "itself"}, "assistant_model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_settings_are_refused_in_one_sentence_that_names_them(model: MPlusModel, said: dict[str, Any], named: str) -> None:
    memory = model.new_memory()
    with pytest.raises(InputError, match=named) as caught:
        greedy(model, memory, **{"max_new_tokens": 3, **said})
    assert "\n" not in str(caught.value)


def test_the_own_base_as_assistant_is_refused_and_a_copy_is_not(own: MPlusModel, memory: Memory) -> None:
    base: Any = own.parts.decoder.model
    with pytest.raises(InputError, match="assistant_model"):
        greedy(own, memory, max_new_tokens=4, assistant_model=base)
    if own.geometry.read.is_shared:
        twin = tiny_model(setup="shared").parts.decoder.model
        assert greedy(own, memory, max_new_tokens=8, assistant_model=twin) == greedy(own, memory, max_new_tokens=8)


def test_prefill_in_chunks_is_the_same_or_refused(own: MPlusModel, memory: Memory) -> None:
    if not own.geometry.read.is_shared:
        with pytest.raises(InputError, match="prefill_chunk_size"):
            greedy(own, memory, max_new_tokens=6, prefill_chunk_size=2)
    else:
        assert greedy(own, memory, max_new_tokens=6, prefill_chunk_size=2) == greedy(own, memory, max_new_tokens=6)
        with pytest.raises(InputError, match="prefill_chunk_size"):
            greedy(own, memory, max_new_tokens=6, prefill_chunk_size=2, use_cache=False)


def test_token_types_that_say_nothing_are_passed_over(own: MPlusModel, memory: Memory) -> None:
    assert greedy(own, memory, max_new_tokens=3, token_type_ids=torch.zeros(1, 5)) == greedy(own, memory, max_new_tokens=3)


def test_an_error_in_a_callers_own_part_goes_through_as_it_is(own: MPlusModel, memory: Memory) -> None:
    class Broken:
        def put(self, value: Any) -> None:
            raise ValueError("mine")

        def end(self) -> None: ...

    with pytest.raises(ValueError, match="^mine$"):
        greedy(own, memory, max_new_tokens=3, streamer=Broken())


def test_processors_criteria_and_filters_see_the_prompt_as_given(own: MPlusModel, memory: Memory) -> None:
    seen: list[list[int]] = []

    def note(row: torch.Tensor) -> None:
        seen.append(row[:5].tolist())

    def processor(table: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        note(table[0])
        return scores

    def allowed(number: int, row: torch.Tensor) -> list[int]:
        note(row)
        return list(range(101))

    got = greedy(
        own,
        memory,
        max_new_tokens=12,
        logits_processor=[processor],
        prefix_allowed_tokens_fn=allowed,
        stopping_criteria=StoppingCriteriaList([MaxLengthCriteria(9)]),
    )
    assert got == greedy(own, memory, max_new_tokens=4)
    assert seen and all(row == PROMPT.tolist() for row in seen)


# -- text and conversations -----------------------------------------------------------------------------------------


def test_chat_goes_on_for_longer_than_generate_where_nobody_says_a_length() -> None:
    model = text_model(positions=1024)
    messages, columns = [{"role": "user", "content": "Who?"}], len("user: Who?\n")
    counts: list[int] = []

    class Count:
        def put(self, value: torch.Tensor) -> None:
            counts.append(value.numel())

        def end(self) -> None: ...

    model.chat(messages, memory=model.new_memory(), do_sample=False, streamer=Count())
    assert sum(counts) == columns + CHAT_TOKENS
    counts.clear()
    model.generate("user: Who?\n", memory=model.new_memory(), do_sample=False, streamer=Count())
    assert sum(counts) == columns + 20
    counts.clear()
    small = text_model(positions=200)
    small.chat(messages, memory=small.new_memory(), do_sample=False, streamer=Count())
    assert sum(counts) == 200 - 1


def test_stop_strings_use_the_models_own_tokenizer() -> None:
    model = text_model()
    free = model.generate("Who?", max_new_tokens=12, do_sample=False)
    assert free.startswith(model.generate("Who?", max_new_tokens=12, do_sample=False, stop_strings=[free[1:3]]))
    assert len(model.generate("Who?", max_new_tokens=12, do_sample=False, stop_strings=[free[1:3]])) < len(free)


def test_answers_of_one_conversation_stand_together() -> None:
    model = text_model()
    first, second = ([{"role": "user", "content": text}] for text in ("Who?", "And where?"))
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": True, "top_k": 1}
    several = model.chat([first, second], num_return_sequences=2, **options)
    one, other = (model.chat(messages, max_new_tokens=4, do_sample=False) for messages in (first, second))
    assert several == [one, one, other, other]


def test_a_dictionary_result_of_text_is_refused() -> None:
    with pytest.raises(InputError, match="return_dict_in_generate"):
        text_model().generate("Who?", return_dict_in_generate=True)


def test_names_that_are_refused_are_names_of_transformers() -> None:
    generate: Any = text_model().parts.decoder.model
    known = {
        *inspect.signature(generate.generate).parameters,
        *inspect.signature(generate.forward).parameters,
        *vars(GenerationConfig()),
    }
    assert set(NOT_WITH_MEMORY) - known <= {"cache_position"}
