"""Laws of BOS: memory's own stands before a prompt, no second one behind it; without a memory text is tokenised as transformers does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from mplus import MPlusModel
from mplus.evaluation.systems.plain_model import PlainModel
from mplus.text.prompts import bos_opens_turns, encode, tokens_in_front, without_bos
from mplus.training.bank.question_states import chat_ids
from tests.tiny import byte_tokenizer, text_model, tiny_decoder, tiny_geometry

TURNS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
LITERAL = "<s>" + TURNS
VARIABLE = "{{ bos_token }}" + TURNS
MARKED = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<s>said:{% endif %}"
)
BOS = 256


def with_bos(template: str = TURNS, *, adds: bool = False) -> PreTrainedTokenizerFast:
    """Bytes, and BOS as token 256; `adds`: as Llama's, it puts BOS before every text."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    if adds:
        backend: Any = tokenizer.backend_tokenizer
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.chat_template = template
    return tokenizer


def opened(template: str = TURNS, *, adds: bool = False) -> MPlusModel:
    geometry = tiny_geometry(new_tokens=32, chunk_tokens=32, stm_tokens=64, ltm_read_tokens=16, min_write_tokens=8)
    return MPlusModel.from_base(tiny_decoder(vocabulary=257), geometry=geometry, tokenizer=with_bos(template, adds=adds))


def read(model: MPlusModel, waits: bool = False) -> Any:
    memory = model.new_memory(write_context="memory")
    memory.write("The keeper of the lighthouse is called Anna Berg, and she is old. "[:64])
    if waits:
        memory.write("Yes.")
        assert memory.pending_tokens
    return memory


class Seen:
    """Keeps the first that a streamer is shown: the prompts."""

    def __init__(self) -> None:
        self.prompt: list[int] | None = None

    def put(self, value: torch.Tensor) -> None:
        self.prompt = value.flatten().tolist() if self.prompt is None else self.prompt

    def end(self) -> None:
        pass


@pytest.mark.parametrize("template", [VARIABLE, LITERAL])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_chat_puts_no_second_bos_behind_that_of_memory(template: str, adds: bool, waits: bool) -> None:
    model, plain, seen = opened(template, adds=adds), opened(TURNS), Seen()
    messages = [{"role": "user", "content": "Who?"}]
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    answer = model.chat(messages, memory=read(model, waits), streamer=seen, **options)
    assert seen.prompt == byte_tokenizer()("user: Who?\n")["input_ids"]
    assert answer == plain.chat(messages, memory=read(plain, waits), **options)


@pytest.mark.parametrize("waits", [False, True])
def test_ids_that_begin_with_bos_are_read_as_without_it_and_come_back_as_given(waits: bool) -> None:
    model = opened()
    memory, row = read(model, waits), torch.tensor([[70, 80, 90, 100]])
    given = torch.cat([torch.tensor([[BOS]]), row], 1)
    torch.testing.assert_close(model(given, memory=memory).logits[:, 1:], model(row, memory=memory).logits, atol=1e-5, rtol=1e-5)
    got = model.generate(given, memory=memory, max_new_tokens=6, do_sample=False)
    expected = model.generate(row, memory=memory, max_new_tokens=6, do_sample=False)
    assert got[:, :5].tolist() == given.tolist()
    assert got[:, 5:].tolist() == expected[:, 4:].tolist()
    rest = [[75, 85]]
    (told,), (same,) = (model.log_likelihood(ids.tolist(), rest, memory) for ids in (given, row))
    torch.testing.assert_close(told, same)


def test_bos_behind_padding_is_passed_over_row_by_row() -> None:
    model = opened()
    memory = read(model)
    table = torch.tensor([[0, 0, BOS, 70, 80], [BOS, 60, 70, 80, 90], [0, 65, 75, 85, 95]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])
    got = model.generate(table, memory=memory, attention_mask=mask, max_new_tokens=4, do_sample=False)
    for row, alone in zip(got, ([70, 80], [60, 70, 80, 90], [65, 75, 85, 95]), strict=True):
        single = model.generate(alone, memory=memory, max_new_tokens=4, do_sample=False)
        assert row[5:].tolist() == single[0, len(alone) :].tolist()


def test_a_prompt_of_nothing_but_bos_stays_a_prompt() -> None:
    model = opened()
    assert model.generate([BOS], memory=read(model), max_new_tokens=2, do_sample=False).shape == (1, 3)


def test_a_bos_that_opens_turns_stays_and_one_before_it_goes() -> None:
    marked, doubled = with_bos(MARKED), with_bos("{{ bos_token }}" + MARKED)
    messages = [{"role": "user", "content": "Who?"}]
    expected = marked("<s>user: Who?\n<s>said:", add_special_tokens=False)["input_ids"]
    for tokenizer in (marked, doubled):
        assert bos_opens_turns(tokenizer)
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert encode(tokenizer, str(text), templated=True) == expected
        assert chat_ids(tokenizer, "Who?") == expected
    assert not bos_opens_turns(with_bos(VARIABLE)) and not bos_opens_turns(byte_tokenizer())


def test_training_and_evaluation_ask_behind_memory_without_bos() -> None:
    assert chat_ids(with_bos(VARIABLE, adds=True), "Who?") == byte_tokenizer()("user: Who?\n")["input_ids"]
    assert without_bos(with_bos(), [BOS, 5, BOS]) == [5, BOS]
    assert without_bos(with_bos(), [BOS]) == [BOS]
    assert without_bos(byte_tokenizer(), [5, 6]) == [5, 6]


@pytest.mark.parametrize("adds", [False, True])
def test_without_a_memory_text_is_tokenised_as_transformers_does(adds: bool) -> None:
    model = opened(VARIABLE, adds=adds)
    seen, asked = Seen(), Seen()
    model.generate("Who?", max_new_tokens=2, do_sample=False, streamer=seen)
    assert seen.prompt == model.tokenizer("Who?")["input_ids"]
    assert seen.prompt is not None and (seen.prompt[0] == BOS) == adds
    model.chat([{"role": "user", "content": "Who?"}], max_new_tokens=2, do_sample=False, streamer=asked)
    assert asked.prompt is not None and asked.prompt[0] == BOS and asked.prompt[1] != BOS


@pytest.mark.parametrize("adds", [False, True])
def test_plain_systems_score_text_behind_the_bos_of_its_tokenizer(adds: bool) -> None:
    model = opened(adds=adds)
    front = [BOS] if adds else []
    assert tokens_in_front(model.tokenizer) == front
    context, rest = [70, 80, 90], [75, 85]
    (given,) = PlainModel(model).likelihood([context], [rest])
    logits = model(torch.tensor([[*front, *context, *rest]])).logits[0, -3:-1].log_softmax(-1)
    assert given.nats == pytest.approx(-float(logits[[0, 1], rest].sum()), abs=1e-4)
    (prompt,) = [PlainModel(opened(VARIABLE, adds=adds)).prompt("Who?")]
    assert prompt[0] == BOS and BOS not in prompt[1:]


# -- waiting text and the prompt ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "stands"), [("34 people", "\n\n34 people"), (" 34", " 34"), ("\n34", "\n34"), ("<s>x", "\n\nx")]
)
def test_waiting_text_and_a_prompt_do_not_become_one_word(prompt: str, stands: str) -> None:
    model = text_model() if "<s>" not in prompt else opened()
    memory, plain = read(model), read(model)
    memory.write(" is 12")
    raw = byte_tokenizer()(f" is 12{stands}")["input_ids"]
    got = model.generate(prompt, memory=memory, max_new_tokens=5, do_sample=False)
    assert got == model.tokenizer.decode(model.generate(raw, memory=plain, max_new_tokens=5, do_sample=False)[0, len(raw) :])


def test_no_separator_before_a_control_token_or_behind_a_line_end() -> None:
    model = opened(MARKED)
    memory = read(model)
    memory.write(" is 12")
    ids = model.tokenizer("<s>user: 34\n<s>said:", add_special_tokens=False)["input_ids"]
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
    answer = model.chat([{"role": "user", "content": "34"}], memory=memory, **options)
    said = model.generate(ids, memory=memory, **options)[0, len(ids) :]
    assert answer == str(model.tokenizer.decode(said, skip_special_tokens=True)).strip()
    lines = read(model)
    lines.write(" is 12\n")
    row = byte_tokenizer()("34")["input_ids"]
    said = model.generate(row, memory=lines, **options)[0, 2:]
    assert model.generate("34", memory=lines, **options) == model.tokenizer.decode(said, skip_special_tokens=True)
