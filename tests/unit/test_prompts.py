"""Laws of asking: what a prompt may be, what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mplus import MPlusModel
from mplus.errors import EmptyTextError, InputError, PromptTooLongError
from tests.conftest import TinyModel
from tests.tiny import byte_tokenizer, filled, ids, text_model, tiny_decoder, tiny_geometry

# -- forms of a prompt -----------------------------------------------------------------------------------------------


def test_text_is_answered_with_text_and_texts_with_texts(text_model: MPlusModel) -> None:
    memory = text_model.new_memory()
    memory.write("The keeper of the lighthouse is called Anna Berg, and she is old. " * 4)
    options: dict[str, Any] = {"memory": memory, "max_new_tokens": 5, "do_sample": False}
    one = text_model.generate("Who keeps it?", **options)
    two = text_model.generate(["Who keeps it?", "And how old is she, then?"], **options)
    assert isinstance(one, str) and isinstance(two, list)
    assert two[0] == one and len(two) == 2
    assert text_model.generate(["Who keeps it?"], **options) == [one]


def test_text_gives_the_same_as_its_token_ids(text_model: MPlusModel) -> None:
    memory = filled(text_model, 64)
    assert not memory.pending_tokens
    row = byte_tokenizer()("Who?")["input_ids"]
    for form in (row, torch.tensor(row), torch.tensor([row])):
        got = text_model.generate(form, memory=memory, max_new_tokens=5, do_sample=False)
        assert got.shape == (1, 9)
        assert text_model.tokenizer.decode(got[0, 4:]) == text_model.generate("Who?", memory, max_new_tokens=5, do_sample=False)


def test_chat_is_generate_behind_the_template(text_model: MPlusModel) -> None:
    memory = filled(text_model, 70)
    messages = [{"role": "user", "content": "Who?"}]
    answer = text_model.chat(messages, memory=memory, max_new_tokens=5, do_sample=False)
    assert answer == text_model.generate("user: Who?\n", memory=memory, max_new_tokens=5, do_sample=False)
    assert text_model.chat([messages, messages], memory=memory, max_new_tokens=5, do_sample=False) == [answer, answer]


# -- too long ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> MPlusModel:
    """64 positions: 25 for memory."""
    return MPlusModel.from_base(tiny_decoder(positions=64), geometry=tiny_geometry())


def test_prompt_that_fills_the_positions_is_read_and_one_token_more_is_refused(small: MPlusModel) -> None:
    memory = filled(small, tokens=64)
    room = 64 - 1 - len(memory.pool) - 8
    assert small.generate(ids(room - 3), memory=memory, max_new_tokens=3, do_sample=False).shape == (1, room)
    small(ids(room)[None], memory=memory)
    for refused in (
        lambda: small.generate(ids(room - 2), memory=memory, max_new_tokens=3),
        lambda: small(ids(room + 1)[None], memory=memory),
    ):
        with pytest.raises(PromptTooLongError, match="64 positions"):
            refused()


def test_room_counts_what_the_memory_really_holds(small: MPlusModel) -> None:
    small(ids(63)[None], memory=small.new_memory())
    small(ids(64)[None])
    with pytest.raises(PromptTooLongError):
        small(ids(64)[None], memory=small.new_memory())


def test_waiting_text_needs_room_too(small: MPlusModel) -> None:
    memory = small.new_memory()
    memory.write(ids(1))
    with pytest.raises(PromptTooLongError):
        small(ids(63)[None], memory=memory)


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["", [], torch.empty(0, dtype=torch.long), torch.empty(2, 0, dtype=torch.long), ["Who?", ""]])
def test_empty_prompt_is_refused(text_model: MPlusModel, nothing: Any) -> None:
    with pytest.raises(EmptyTextError, match="nothing to answer"):
        text_model.generate(nothing, memory=text_model.new_memory())


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": "  "}]])
def test_empty_conversation_is_refused(text_model: MPlusModel, messages: Any) -> None:
    with pytest.raises(EmptyTextError, match="nothing to answer"):
        text_model.chat(messages)


@pytest.mark.parametrize(
    "messages", ["hello", [[]], [{"content": "hi"}], [{"role": "user"}], [{"role": "user", "content": 3}], [["hi"]]]
)
def test_conversation_of_another_form_is_refused(text_model: MPlusModel, messages: Any) -> None:
    with pytest.raises(InputError, match="role"):
        text_model.chat(messages)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (torch.ones(1, 3), "whole numbers"),
        (torch.tensor([[5, 101]]), "0..100"),
        (torch.tensor([[-1, 5]]), "0..100"),
        ([[1, 2], [3]], "one length"),
        (["a", 1], "one length"),
        (None, "one length"),
        ("text", "tokenizer"),
    ],
)
def test_prompt_of_another_form_is_refused(model: MPlusModel, prompt: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        model.generate(prompt, memory=model.new_memory())


def test_right_padding_is_refused(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="left"):
        model(ids(4)[None], torch.tensor([[1, 1, 1, 0]]))


def test_mask_of_another_shape_is_refused(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="attention_mask"):
        model(ids(4)[None], torch.ones(1, 5))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_list_of_memories_must_match_the_prompts(model: MPlusModel, count: int) -> None:
    prompts = torch.stack([ids(4, seed) for seed in range(3)])
    with pytest.raises(InputError, match="memories"):
        model(prompts, memory=[model.new_memory() for _ in range(count)])


def test_empty_list_of_memories_is_not_the_bare_model(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="empty"):
        model(ids(4)[None], memory=[])


def test_memory_of_another_model_is_refused(model: MPlusModel, tiny_model: TinyModel) -> None:
    with pytest.raises(InputError, match="written by model"):
        model(ids(4)[None], memory=filled(tiny_model("qwen3", "shared")))


def test_memory_of_the_same_model_opened_twice_is_read(model: MPlusModel, tiny_model: TinyModel) -> None:
    twin = tiny_model("llama", "shared", attention="eager")
    model(ids(4)[None], memory=filled(twin))


def test_chunk_and_memory_are_not_read_in_one_batch(model: MPlusModel) -> None:
    written = model.encode(ids(4))
    with pytest.raises(InputError, match="two batches"):
        model(torch.stack([ids(4), ids(4)]), memory=[written, model.new_memory()])


def test_chat_without_a_template_is_refused(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="chat template"):
        model.chat([{"role": "user", "content": "hi"}])
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None
    plain = text_model()
    plain.tokenizer = tokenizer
    with pytest.raises(InputError, match="chat template"):
        plain.chat([{"role": "user", "content": "hi"}])
