"""Laws of asking: what a prompt may be, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mplus import MPlusModel
from mplus.errors import EmptyTextError, InputError, PromptTooLongError
from tests.conftest import TinyModel
from tests.tiny import byte_tokenizer, filled, ids, tiny_decoder, tiny_geometry
from tests.tiny import text_model as make_text_model

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
    room = 64 - 1 - len(memory.short_term) - 8
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
    plain = make_text_model()
    plain.tokenizer = tokenizer
    with pytest.raises(InputError, match="chat template"):
        plain.chat([{"role": "user", "content": "hi"}])


# -- at the door ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mapping", "keywords", "numpy", "uint", "mask of lists", "one row", "tensors"])
def test_what_tokenizers_and_numpy_give_is_a_prompt(text_model: MPlusModel, form: str) -> None:
    tokenizer = byte_tokenizer()
    expected = text_model.generate(tokenizer("Who?")["input_ids"], max_new_tokens=3, do_sample=False)
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False}
    table = tokenizer("Who?", return_tensors="pt")
    got = {
        "mapping": lambda: text_model.generate(table, **options),
        "keywords": lambda: text_model.generate(**table, **options),
        "numpy": lambda: text_model.generate(table["input_ids"].numpy(), **options),
        "uint": lambda: text_model.generate(table["input_ids"].numpy().astype("uint16"), **options),
        "mask of lists": lambda: text_model.generate(table["input_ids"], attention_mask=[[1, 1, 1, 1]], **options),
        "one row": lambda: text_model.generate(tokenizer("Who?"), **options),
        "tensors": lambda: text_model.generate(list(table["input_ids"]), **options),
    }[form]()
    assert torch.equal(got, expected)
    memory = filled(text_model, 70)
    assert torch.equal(
        text_model(table["input_ids"].numpy(), memory=memory).logits, text_model(table["input_ids"], memory=memory).logits
    )


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        7,
        b"Who?",
        bytearray(b"Who?"),
        1.5,
        True,
        Path("x"),
        {"text": "Who?"},
        {1, 2},
        Ellipsis,
        [True, False],
        [1.0, 2.0],
        [None],
        [1, "a"],
        [[1, 2], [3]],
        torch.ones(1, 2, dtype=torch.bool),
        np.array([1.5]),
        torch.ones(1, 2, 3, dtype=torch.long),
        [2**70],
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_what_is_no_prompt_is_refused_in_one_sentence(text_model: MPlusModel, prompt: Any) -> None:
    for memory in (None, text_model.new_memory()):
        with pytest.raises(InputError) as caught:
            text_model.generate(prompt, memory=memory)
        assert "\n" not in str(caught.value)


def test_a_prompt_given_twice_or_with_a_mask_for_text_is_refused(text_model: MPlusModel) -> None:
    with pytest.raises(InputError, match="twice"):
        text_model.generate([5], input_ids=[5])
    with pytest.raises(InputError, match="attention_mask"):
        text_model.generate("Who?", attention_mask=torch.ones(1, 4))


@pytest.mark.parametrize("memory", ["directory", Path("directory"), b"x", 7, {"a": 1}, Ellipsis, ["directory"], [None]], ids=repr)
def test_what_is_no_memory_is_refused_in_one_sentence(text_model: MPlusModel, memory: Any) -> None:
    for refused in (
        lambda: text_model.generate("Who?", memory=memory),
        lambda: text_model.chat([{"role": "user", "content": "Who?"}], memory=memory),
        lambda: text_model(ids(3)[None], memory=memory),
        lambda: text_model.log_likelihood([[5]], [[6]], memory=memory),
    ):
        with pytest.raises(InputError, match="memory must be a Memory"):
            refused()


def test_a_token_the_table_lacks_is_named_wherever_it_is_given() -> None:
    model = text_model_with_more_tokens()
    memory = model.new_memory()
    for refused in (
        lambda: model.generate("Use <|tool|> now", memory=memory),
        lambda: model.generate("Use <|tool|> now"),
        lambda: model.generate([5, 257], memory=memory),
        lambda: model.chat([{"role": "user", "content": "<|tool|>"}], memory=memory),
        lambda: model(torch.tensor([[257]]), memory=memory),
        lambda: model.log_likelihood([[1, 257]], [[3]]),
        lambda: model.log_likelihood([[1]], [[257]], memory),
    ):
        with pytest.raises(InputError, match=r"<\|tool\|>.*257"):
            refused()


def test_a_pad_token_the_table_lacks_is_never_looked_up() -> None:
    model = text_model_with_more_tokens()
    texts = ["Who is it, then?", "Who?"]
    for memory in (None, filled(model, 64)):
        options: dict[str, Any] = {"memory": memory, "max_new_tokens": 4, "do_sample": False}
        assert model.generate(texts, **options) == [model.generate(text, **options) for text in texts]
        assert model.tokenizer is not None
        table = model.tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        assert int(table["input_ids"].max()) == 256
        got = model.generate(**table, **options)
        assert model.tokenizer.batch_decode(got[:, 16:]) == model.generate(texts, **options)
    assert len(model.log_likelihood([[1, 2], [1]], [[3], [3, 4]])) == 2


def text_model_with_more_tokens() -> MPlusModel:
    """A tokenizer with a pad token (256) and a control token (257) that the embedding table lacks."""
    model = make_text_model()
    assert model.tokenizer is not None
    model.tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    model.tokenizer.add_tokens(["<|tool|>"], special_tokens=True)
    return model


def test_log_likelihood_refuses_text(text_model: MPlusModel) -> None:
    for prompts, rest in (["a"], [[3]]), ([[3]], ["a"]), ([[3.5]], [[3]]), ([[3]], [b"a"]):
        with pytest.raises(InputError):
            text_model.log_likelihood(prompts, rest)  # type: ignore[arg-type]


def test_repr_says_name_sizes_type_and_place(text_model: MPlusModel) -> None:
    assert repr(text_model).startswith("MPlusModel('LlamaForCausalLM', base=llama, K=32, N=64, K0=16, M=400, dtype=torch.float32")
