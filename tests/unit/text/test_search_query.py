"""Laws: what stands before the last user turn changes nothing of what is found, and memory stands right before that turn."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from mplus import Memory, MPlusModel
from mplus.attach.families import rotate
from mplus.attach.read_pass import Reading, _stm_rows
from mplus.errors import InputError
from mplus.evaluation.integrations.lm_eval import HarnessModel
from mplus.evaluation.schedule.stream import Question, ScheduledQuestion
from mplus.evaluation.systems.memory import MemorySystem
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.retrieval.result import Retrieved
from mplus.text.prompts import Prompts
from mplus.text.search_query import Query, last_user_messages, last_user_turn, turn_markers
from mplus.training.bank.question_bank import PreparedQuestion, QuestionBank
from mplus.training.bank.question_states import Form
from tests.tiny import FAMILIES, byte_tokenizer, text_model, tiny_decoder, tiny_geometry

LLAMA_3 = (
    "{{bos_token}}{% for m in messages %}<|start_header_id|>{{m['role']}}<|end_header_id|>\n\n{{m['content']|trim}}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{m['role']}}\n{{m['content']}}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + CHATML
MISTRAL = (
    "{{bos_token}}{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}"
    "{% else %}{% set s = '' %}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns must alternate') }}{% endif %}{% if m['role'] == 'user' %}[INST] {% if loop.first %}{{s}}{% endif %}"
    "{{m['content']}} [/INST]{% else %} {{m['content']}}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "{{bos_token}}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for m in messages %}"
    "<start_of_turn>{{'model' if m['role'] == 'assistant' else m['role']}}\n{{m['content']|trim}}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
TEMPLATES = {"llama 3": LLAMA_3, "chatml": CHATML, "qwen": QWEN, "mistral": MISTRAL, "gemma": GEMMA}
QUESTIONS = ("Who has 7 keys?", "\n a pie?")
TALK = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes?\n"}]
BEFORE: dict[str, list[dict[str, str]]] = {"system": [{"role": "system", "content": "Be brief."}], "two": TALK, "four": TALK * 2}


def asked(question: str, before: list[dict[str, str]] | None = None) -> list[dict[str, str]]:
    """A conversation that ends with a question."""
    return [*(before or []), {"role": "user", "content": question}]


def ids_of(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """A conversation as a prompt."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    """A tiny one that reads conversations, and where much is left to be found."""
    found = text_model(positions=1024, read_order="score", recent_tokens=16)
    found.tokenizer.chat_template = CHATML
    return found


@pytest.fixture(scope="module")
def memory(model: MPlusModel) -> Memory:
    """Long-term memory, and text that still waits to be written."""
    held = model.new_memory(seed=2)
    generator = torch.Generator().manual_seed(5)
    held.write(torch.randint(0, 256, (320,), generator=generator))
    held.write("<|im_start|>user\nwait")
    return held


def indices(drawn: list[Retrieved]) -> list[Any]:
    """What was found, long-term and short-term."""
    return [[(layer.indices.tolist(), layer.short.tolist(), layer.behind) for layer in one.layers] for one in drawn]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_last_user_turn_is_the_question_asked_alone(name: str, question: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATES[name]
    alone = last_user_turn(tokenizer, ids_of(tokenizer, asked(question)))
    assert question.strip() in tokenizer.decode(alone)
    for kind, before in BEFORE.items():
        if kind == "system" and name == "gemma":
            continue
        conversation = asked(question, before)
        prompt = ids_of(tokenizer, conversation)
        assert last_user_messages(tokenizer, [conversation]) == [alone]
        if (kind, name) != ("system", "mistral"):  # which writes both into one turn
            assert last_user_turn(tokenizer, prompt) == alone
            assert last_user_turn(tokenizer, [*prompt, *tokenizer("It is")["input_ids"]])[: len(alone)] == alone


def test_a_begun_answer_does_not_search() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = CHATML
    prompt = ids_of(tokenizer, asked("Who?"))
    assert last_user_turn(tokenizer, [*prompt, 40, 41]) == prompt


@pytest.mark.parametrize(
    "template", [None, "{{ raise_exception('never') }}", "always this", "{% for m in messages %}{{m['content']}} {% endfor %}"]
)
def test_a_prompt_without_turns_searches_as_a_whole(template: str | None) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    assert turn_markers(tokenizer) is None
    assert last_user_turn(tokenizer, [5, 6, 7]) == [5, 6, 7]
    tokenizer.chat_template = CHATML
    assert last_user_turn(tokenizer, [5, 6, 7]) == [5, 6, 7]
    assert last_user_turn(None, [5, 6, 7]) == [5, 6, 7]


def test_what_stands_before_the_question_changes_nothing_of_what_is_found(model: MPlusModel, memory: Memory) -> None:
    alone: list[Retrieved] = []
    question = "Who has 7 keys?"
    model.chat(asked(question), memory, max_new_tokens=1, do_sample=False, retrieved=alone)
    want = indices(alone)
    assert want[0][0][0] or want[0][0][1]
    for before in BEFORE.values():
        drawn: list[Retrieved] = []
        model.chat(asked(question, before), memory, max_new_tokens=3, num_beams=2, do_sample=False, retrieved=drawn)
        assert indices(drawn) == want
        ids = torch.tensor([ids_of(model.tokenizer, asked(question, before))])
        assert indices(model(ids, memory=memory, return_retrieved=True).retrieved or []) == want
        whole = model(ids, memory=memory, return_retrieved=True, query=ids[0]).retrieved
        assert not torch.equal(one(whole).scores, one(alone).scores)
    several: list[Retrieved] = []
    model.chat([asked(question, one) for one in BEFORE.values()], memory, max_new_tokens=2, do_sample=False, retrieved=several)
    assert indices(several) == want * 3


def one(drawn: list[Retrieved] | None) -> Any:
    """What the first prompt drew."""
    assert drawn
    return drawn[0].layers[0]


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Token ids that every reading searched with."""
    seen: list[list[list[int]]] = []
    own = Reading._search_before

    def noted(self: Reading, query: Query) -> None:
        seen.append(query.prompts.rows())
        own(self, query)

    monkeypatch.setattr(Reading, "_search_before", noted)
    return seen


def test_likelihood_and_harness_search_with_the_last_user_turn(
    model: MPlusModel, memory: Memory, queries: list[list[list[int]]]
) -> None:
    alone = ids_of(model.tokenizer, asked("Who?"))
    prompts = [ids_of(model.tokenizer, asked("Who?", before)) for before in ([], *BEFORE.values())]
    model.log_likelihood(prompts, [[7, 8]] * 4, memory)
    assert queries.pop() == [alone] * 4
    harness = HarnessModel(model, context="memory", chat=True)
    harness.model.log_likelihood([harness._prompt("Who?", "some text")], [[7]], memory)
    assert queries.pop() == [alone]
    model.log_likelihood([[9, 8, 7]], [[1]], memory)
    assert queries.pop() == [[9, 8, 7]]  # pending text stands before it, and does not search
    model.generate("abc", memory, max_new_tokens=1, query="xyz")
    assert queries.pop() == [model.tokenizer("xyz")["input_ids"]]


def test_a_query_is_refused_in_one_sentence(model: MPlusModel, memory: Memory) -> None:
    with pytest.raises(InputError, match="2 queries for 1 prompts"):
        model.generate("abc", memory, max_new_tokens=1, query=["a", "b"])
    with pytest.raises(InputError, match="at least one token"):
        model.generate("abc", memory, max_new_tokens=1, query="")
    layers = per_layer()
    with pytest.raises(InputError, match="does not stand in it"):
        layers.generate("abc", filled(layers), max_new_tokens=1, query="xyz")


def per_layer() -> MPlusModel:
    """A tiny model each layer of which searches for itself."""
    sizes = {"new_tokens": 32, "chunk_tokens": 32, "stm_tokens": 64, "ltm_read_tokens": 16, "min_write_tokens": 8}
    geometry = tiny_geometry(**sizes, drop="per_layer", retrieval="per_layer", block_tokens=1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        decoder = tiny_decoder(vocabulary=256, positions=1024)
        found = MPlusModel.from_base(decoder, geometry=geometry, tokenizer=byte_tokenizer(), key_width=6)
    found.tokenizer.chat_template = CHATML
    return found


def filled(model: MPlusModel) -> Memory:
    """One with long-term tokens in every layer."""
    held = model.new_memory(seed=2)
    held.write(torch.randint(0, 256, (320,), generator=torch.Generator().manual_seed(5)))
    return held


def test_per_layer_only_tokens_of_the_last_user_turn_search() -> None:
    model = per_layer()
    memory, retriever = filled(model), model.parts.retriever
    assert isinstance(retriever, PerLayerRetriever)
    prompt = ids_of(model.tokenizer, asked("Who has 7 keys?", TALK))
    alone = len(ids_of(model.tokenizer, asked("Who has 7 keys?")))
    ids = torch.tensor([prompt])
    out = model(ids, memory=memory, return_retrieved=True, output_hidden_states=True)
    assert out.retrieved is not None and out.hidden_states is not None
    for layer, found in enumerate(out.retrieved[0].layers):
        normed = model.parts.decoder.normed(layer, out.hidden_states[layer])
        queries = retriever.queries(layer, normed[:, -alone:])
        keys = memory.long_term.column(layer, "search").to(queries)
        torch.testing.assert_close(found.scores, torch.sigmoid(queries[0] @ keys.T).mean(0))
    cached, whole = list[Retrieved](), list[Retrieved]()
    model.generate(ids, memory, max_new_tokens=3, do_sample=False, retrieved=cached)
    model.generate(ids, memory, max_new_tokens=3, do_sample=False, retrieved=whole, use_cache=False)
    assert cached[0].indices == whole[0].indices == out.retrieved[0].indices  # new tokens do not search either


def plain(model: MPlusModel, memory: Memory, earlier: list[int], last: list[int]) -> tuple[Tensor, Tensor]:
    """Logits [T, V] of earlier turns behind BOS, and of the last turn behind BOS, those turns and memory: position by position."""
    model_parts, decoder = model.parts, model.parts.decoder
    ids = torch.tensor([last])
    reading = Reading(model_parts, model.geometry, [memory], ids, torch.ones_like(ids, dtype=torch.bool), room=1)
    short, behind = _stm_rows(memory, reading.left_short[0]), reading.behind[0]
    older = reading._short_tokens(0) - behind
    parts = {name: [short[name][:, :older], reading.gathered[0][name], short[name][:, older:]] for name in ("keys", "values")}
    rows = {name: torch.cat(part, 1) for name, part in parts.items()}
    slots, bos = rows["keys"].shape[1], model_parts.bos_kv(None, decoder.depth)
    cache = DynamicCache()
    for layer, (key, value) in enumerate(bos):
        cache.update(key[None].transpose(1, 2), value[None].transpose(1, 2), layer)
    net: Any = decoder.model
    with torch.no_grad():
        first = net(torch.tensor([earlier]), position_ids=torch.arange(1, 1 + len(earlier))[None], past_key_values=cache).logits
        cos, sin = decoder.rotation(torch.arange(slots)[None] + 1 + len(earlier), model_parts.bos)
        for layer in range(decoder.depth):
            keys = rotate(rows["keys"][layer][None], cos, sin).transpose(1, 2)
            cache.update(keys, rows["values"][layer][None].transpose(1, 2), layer)
        place = torch.arange(len(last))[None] + 1 + len(earlier) + slots
        second = net(ids, position_ids=place, past_key_values=cache).logits
    return first[0], second[0]


@pytest.mark.parametrize(("family", "attention"), [("llama", "eager"), *((family, "sdpa") for family in FAMILIES)])
def test_earlier_turns_are_read_between_bos_and_memory(model: MPlusModel, family: str, attention: str) -> None:
    decoder = tiny_decoder(family, vocabulary=256, positions=1024)
    other = MPlusModel.from_base(decoder, geometry=model.geometry, tokenizer=model.tokenizer, attn_implementation=attention)
    memory = filled(other)
    prompts = [ids_of(other.tokenizer, asked("Who has 7 keys?", before)) for before in ([], *BEFORE.values())]
    rows = Prompts.from_rows(prompts, 0, torch.device("cpu"))
    for prompt, logits in zip(prompts, other(rows.ids, rows.mask, memory).logits, strict=True):
        last = last_user_turn(other.tokenizer, prompt)
        earlier, own = prompt[: len(prompt) - len(last)], logits[-len(prompt) :]
        torch.testing.assert_close(own, other(torch.tensor([prompt]), memory=memory).logits[0], atol=1e-4, rtol=1e-4)
        if earlier:
            torch.testing.assert_close(own, torch.cat(plain(other, memory, earlier, last)), atol=1e-4, rtol=1e-4)


def test_generation_with_and_without_cache_and_beside_others_says_the_same(model: MPlusModel, memory: Memory) -> None:
    conversations = [asked("Who has 7 keys?", before) for before in ([], *BEFORE.values())]
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    each = [model.chat(conversation, memory, **options) for conversation in conversations]
    assert model.chat(conversations, memory, **options) == each
    assert [model.chat(conversation, memory, use_cache=False, **options) for conversation in conversations] == each
    ids = torch.tensor([ids_of(model.tokenizer, conversations[-1])])
    greedy = model.generate(ids, memory, **options)
    for beams in (1, 2):
        out = model.generate(ids, memory, num_return_sequences=beams, num_beams=beams, max_new_tokens=6, do_sample=False)
        assert out.shape == (beams, ids.shape[1] + 6) and torch.equal(out[:, : ids.shape[1]], ids.expand(beams, -1))
    score = model.log_likelihood([ids[0].tolist()], [greedy[0, ids.shape[1] :].tolist()], memory)[0]
    logits = model(greedy[:, :-1], memory=memory, query=Query.of(model.tokenizer, Prompts(ids, ids >= 0)).prompts.ids[0]).logits
    want = logits[0, ids.shape[1] - 1 :].log_softmax(-1).gather(-1, greedy[0, ids.shape[1] :, None])[:, 0]
    torch.testing.assert_close(score, want, atol=1e-4, rtol=1e-4)


def test_training_searches_behind_a_system_prompt_as_with_the_question_alone(model: MPlusModel) -> None:
    question: Any = SimpleNamespace(text="Who has 7 keys?", answer="Ana", span=(0, 3), kind="fact", is_fact=True)
    found: dict[Form, PreparedQuestion] = {}
    for form in get_args(Form):
        bank = QuestionBank(model, 1, 32, per_chunk=1, forms={form: 1.0}, randomness=random.Random(0))
        found[form] = bank.prepare([question])[0]
    assert len(found["system"].prompt) > len(found["chat"].prompt) == found["chat"].states.shape[1]
    assert torch.equal(found["system"].states, found["chat"].states)


def test_evaluation_searches_with_the_query_of_a_question(
    model: MPlusModel, memory: Memory, queries: list[list[list[int]]]
) -> None:
    fields: dict[str, Any] = {"id": "1", "cluster": "1", "answers": ("x",), "span": (0, 1), "answer_span": (0, 1)}
    plain, worded = (Question(text=f"{words}Who?", query="Who?", **fields) for words in ("", "Answer in one word. "))
    system = MemorySystem("mplus", model, memory)
    system.answer([ScheduledQuestion(plain, 0), ScheduledQuestion(worded, 0)], 1)
    assert queries.pop() == [ids_of(model.tokenizer, asked("Who?"))] * 2
    scored = replace(worded, continuation=(7, 8))
    system.likelihood([ScheduledQuestion(scored, 0)])
    assert queries.pop() == [model.tokenizer("Who?")["input_ids"]]
