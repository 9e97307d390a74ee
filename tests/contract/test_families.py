"""One contract for all decoder families and both ways of dropping, finding and tapping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from mplus import Memory, MPlusModel
from mplus.attach.families import SUPPORTED
from mplus.errors import GeometryError, PromptTooLongError, UnsupportedModelError
from mplus.retrieval.late_interaction import LateInteractionRetriever
from tests.conftest import TinyModel
from tests.contract.plain import Plain
from tests.tiny import FAMILIES, SETUPS, contents, filled, ids, same_contents, tiny_decoder, tiny_geometry

ATOL = 1e-4  # logits of these models reach 20


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=ATOL, rtol=1e-4)


# What a family computes may depend on the setup, so that plain concatenation is compared in every pair. The rest (batches, padding,
# formats, generation, hooks) is done by code that knows neither family nor setup: it runs in pairs that hold each family with three
# setups, and each setup with several families.
EVERY_PAIR = [(family, setup) for family in sorted(FAMILIES) for setup in sorted(SETUPS)]
COVERING_PAIRS = [
    (family, sorted(SETUPS)[(number + step) % len(SETUPS)])
    for number, family in enumerate(sorted(FAMILIES))
    for step in (0, 2, 4)
]
in_every_pair = pytest.mark.parametrize(("family", "setup"), EVERY_PAIR)


@pytest.fixture(params=COVERING_PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    family, setup = request.param
    return family, setup


@pytest.fixture
def family(pair: tuple[str, str]) -> str:
    return pair[0]


@pytest.fixture
def setup(pair: tuple[str, str]) -> str:
    return pair[1]


@pytest.fixture
def model(tiny_model: TinyModel, family: str, setup: str) -> Iterator[MPlusModel]:
    """A model that every test leaves as it was."""
    found = tiny_model(family, setup)
    before = {name: value.clone() for name, value in found.parts.decoder.model.state_dict().items()}
    yield found
    assert hooks_of(found) == 0, "hooks were left on the model"
    after = found.parts.decoder.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].view(torch.uint8), after[name].view(torch.uint8)) for name in before)


@pytest.fixture
def memory(model: MPlusModel) -> Iterator[Memory]:
    """A memory with long-term rows, which no test of this file changes."""
    found = filled(model)
    assert len(found.long_term) > model.geometry.sizes.ltm_read_tokens
    before = contents(found)
    yield found
    assert same_contents(before, contents(found)), "reading changed the memory"


def hooks_of(model: MPlusModel) -> int:
    """Hooks on any module of the decoder."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.parts.decoder.model.modules() for kind in kinds)


def padded(rows: list[Tensor], pad: int = 0) -> tuple[Tensor, Tensor]:
    """Left-padded ids [B, T] and their mask."""
    width = max(len(row) for row in rows)
    table = torch.full((len(rows), width), pad)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        table[number, width - len(row) :] = row
        mask[number, width - len(row) :] = 1
    return table, mask


# -- the hook path is plain concatenation ----------------------------------------------------------------------------


@in_every_pair
@pytest.mark.parametrize("tokens", [1, 5, 8, "longest"])
def test_write_equals_plain_concatenation(model: MPlusModel, tokens: int | str) -> None:
    chunk = ids(model.geometry.sizes.chunk_tokens if tokens == "longest" else int(tokens), seed=21)
    memory = filled(model, memory_format="hidden")
    tail = memory.short_term.newest(model.geometry.sizes.new_tokens)["hidden"]
    assert tail.shape[1] == model.geometry.sizes.new_tokens
    written = model.encode(chunk, memory)
    assert written.hidden is not None
    close(written.hidden, Plain(model).write(chunk, tail))


@in_every_pair
def test_first_write_sees_nothing_but_bos(model: MPlusModel) -> None:
    chunk = ids(6, seed=22)
    memory = model.new_memory(memory_format="hidden")
    written = model.encode(chunk, memory)
    assert written.hidden is not None
    close(written.hidden, Plain(model).write(chunk, torch.zeros(2, 0, 32)))


@in_every_pair
def test_read_equals_plain_concatenation(model: MPlusModel) -> None:
    memory, prompt = filled(model, tokens=60, memory_format="hidden"), ids(7, seed=23)
    plain = Plain(model).read(prompt, memory)
    out = model(prompt[None], memory=memory, return_retrieved=True, output_hidden_states=True)
    assert out.retrieved is not None and out.hidden_states is not None
    layers = out.retrieved[0].indices
    long = [[row for row in rows if row < len(memory.long_term)] for rows in plain.chosen]  # what follows is short-term
    assert (layers * len(long) if len(layers) == 1 else layers) == long
    for got, expected in zip(out.hidden_states, plain.hidden, strict=True):
        close(got[0], expected)
    close(out.logits[0], plain.logits)


@in_every_pair
def test_read_of_a_memory_that_still_grows_equals_plain_concatenation(model: MPlusModel) -> None:
    memory, prompt = filled(model, tokens=10, memory_format="hidden"), ids(5, seed=24)
    assert len(memory.short_term) < model.geometry.sizes.stm_tokens and not len(memory.long_term)
    close(model(prompt[None], memory=memory).logits[0], Plain(model).read(prompt, memory).logits)


@in_every_pair
def test_read_without_memory_is_the_bare_base(model: MPlusModel) -> None:
    prompt = ids(9, seed=25)
    with model.untouched() as base, torch.no_grad():
        expected = base(prompt[None]).logits
    assert torch.equal(model(prompt[None]).logits, expected)


# -- batches -------------------------------------------------------------------------------------------------------


def test_batch_of_three_prompts_equals_three_singles(model: MPlusModel, memory: Memory) -> None:
    prompts = torch.stack([ids(6, seed) for seed in (31, 32, 33)])
    together = model(prompts, memory=memory, return_retrieved=True)
    alone = [model(prompt[None], memory=memory, return_retrieved=True) for prompt in prompts]
    close(together.logits, torch.cat([one.logits for one in alone]))
    assert [found.indices for found in together.retrieved or []] == [(one.retrieved or [])[0].indices for one in alone]


def test_left_padded_batch_equals_unpadded_prompts(model: MPlusModel, memory: Memory) -> None:
    rows = [ids(length, seed) for length, seed in ((3, 41), (9, 42), (6, 43))]
    table, mask = padded(rows)
    together = model(table, mask, memory=memory, return_retrieved=True)
    for number, row in enumerate(rows):
        alone = model(row[None], memory=memory, return_retrieved=True)
        close(together.logits[number, -len(row) :], alone.logits[0])
        assert (together.retrieved or [])[number].indices == (alone.retrieved or [])[0].indices


def test_what_stands_under_padding_does_not_matter(model: MPlusModel, memory: Memory) -> None:
    rows = [ids(3, 44), ids(9, 45)]
    (first, mask), (second, _) = padded(rows, pad=0), padded(rows, pad=77)
    got, expected = model(first, mask, memory=memory).logits, model(second, mask, memory=memory).logits
    close(got[0, -3:], expected[0, -3:])
    close(got[1], expected[1])


def test_memories_of_different_sizes_in_one_batch_equal_one_by_one(model: MPlusModel) -> None:
    memories = [filled(model, tokens, seed=tokens) for tokens in (5, 61, 20, 33)] + [model.new_memory()]
    rows = [ids(length, seed) for length, seed in ((4, 51), (7, 52), (7, 53), (2, 54), (5, 55))]
    table, mask = padded(rows)
    together = model(table, mask, memory=memories)
    for number, (row, one) in enumerate(zip(rows, memories, strict=True)):
        close(together.logits[number, -len(row) :], model(row[None], memory=one).logits[0])


def test_several_memories_read_one_prompt(model: MPlusModel) -> None:
    memories, prompt = [filled(model), filled(model, 20)], ids(5, 87)[None]
    together = model(prompt, memory=memories).logits
    close(together, torch.cat([model(prompt, memory=one).logits for one in memories]))


def test_both_memory_formats_in_one_batch_equal_one_by_one(model: MPlusModel) -> None:
    memories = [filled(model, 45, memory_format="kv"), filled(model, 33, memory_format="hidden")]
    prompts = torch.stack([ids(6, 56), ids(6, 57)])
    together = model(prompts, memory=memories).logits
    close(together, torch.cat([model(row[None], memory=one).logits for row, one in zip(prompts, memories, strict=True)]))


def test_chunks_written_as_a_batch_equal_chunks_written_alone(model: MPlusModel, memory: Memory) -> None:
    chunks = torch.stack([ids(5, 58), ids(5, 59)])
    for one, chunk in zip(model.writer.encode_batch(chunks, memory), chunks, strict=True):
        alone = model.encode(chunk, memory)
        assert one.rows.keys() == alone.rows.keys()
        for name, rows in one.rows.items():
            close(rows, alone.rows[name])


# -- formats and back ends -------------------------------------------------------------------------------------------


def test_keys_and_values_equal_hidden_states(model: MPlusModel) -> None:
    hidden, kv = (filled(model, memory_format=memory_format) for memory_format in ("hidden", "kv"))
    prompts = torch.stack([ids(6, 61), ids(6, 62)])
    first, second = (model(prompts, memory=one, return_retrieved=True) for one in (hidden, kv))
    close(first.logits, second.logits)
    assert [found.indices for found in first.retrieved or []] == [found.indices for found in second.retrieved or []]
    assert torch.equal(hidden.placement.births, kv.placement.births)


@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_a_chunk_sees_an_earlier_one_as_if_it_had_been_written(model: MPlusModel, memory_format: Any) -> None:
    memory = model.new_memory(memory_format=memory_format)
    first, second = ids(8, 63), ids(7, 64)
    written = model.encode(first, memory)
    ahead = model.encode(second, memory, tail=written)
    memory.update(written)
    for name, rows in model.encode(second, memory).rows.items():
        close(ahead.rows[name], rows)


def test_a_chunk_that_kept_hidden_states_can_be_seen_by_one_that_keeps_keys_and_values(model: MPlusModel) -> None:
    hidden, kv = (model.new_memory(memory_format=memory_format) for memory_format in ("hidden", "kv"))
    first, second = ids(8, 63), ids(7, 64)
    ahead = model.encode(second, kv, tail=model.encode(first, hidden))
    kv.update(model.encode(first, kv))
    for name, rows in model.encode(second, kv).rows.items():
        close(ahead.rows[name], rows)


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_a_chunk_read_alone_equals_a_memory_that_holds_only_it(tiny_model: TinyModel, family: str, memory_format: Any) -> None:
    model = tiny_model(family, "per_layer")  # no adapters: else a chunk alone is read with the write adapter, as published
    memory, prompt = model.new_memory(memory_format=memory_format), ids(5, 65)[None]
    written = model.encode(ids(8, 66), memory)
    alone = model(prompt, memory=written).logits
    memory.update(written)
    close(alone, model(prompt, memory=memory).logits)


def test_eager_attention_equals_sdpa(tiny_model: TinyModel, family: str, setup: str) -> None:
    sdpa, eager = tiny_model(family, setup), tiny_model(family, setup, attention="eager")
    assert eager.parts.decoder.config._attn_implementation == "eager"
    table, mask = padded([ids(4, 71), ids(8, 72)])
    first = sdpa(table, mask, memory=[filled(sdpa), filled(sdpa, 20)]).logits
    second = eager(table, mask, memory=[filled(eager), filled(eager, 20)]).logits
    close(first[0, -4:], second[0, -4:])
    close(first[1], second[1])


# -- generation ----------------------------------------------------------------------------------------------------


def test_greedy_batch_equals_greedy_singles(model: MPlusModel, memory: Memory) -> None:
    rows = [ids(length, seed) for length, seed in ((3, 81), (8, 82), (5, 83))]
    table, mask = padded(rows)
    together = model.generate(table, memory=memory, attention_mask=mask, max_new_tokens=6, do_sample=False)
    for number, row in enumerate(rows):
        alone = model.generate(row[None], memory=memory, max_new_tokens=6, do_sample=False)
        assert together[number, table.shape[1] :].tolist() == alone[0, len(row) :].tolist()


def test_greedy_generation_equals_repeated_argmax(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retrieval happens once, from the prompt, so the twin reads a memory whose every long-term row is read anyway.

    Where found rows stand in the order of their scores, the twin is given the order that the prompt alone found.
    """
    memory = filled(model, tokens=24)
    first: list[Any] = []

    search = LateInteractionRetriever.search

    def found_once(*arguments: Any, **options: Any) -> Any:
        if not first:
            first.append(search(*arguments, **options))
        return first[0]

    monkeypatch.setattr(LateInteractionRetriever, "search", found_once)
    assert len(memory.long_term) <= model.geometry.sizes.ltm_read_tokens
    text = ids(5, 84)[None]
    got = model.generate(text, memory=memory, max_new_tokens=5, do_sample=False)
    for _ in range(5):
        text = torch.cat([text, model(text, memory=memory).logits[:, -1:].argmax(-1)], 1)
    assert got.tolist() == text.tolist()


def test_generation_without_cache_equals_generation_with_it(model: MPlusModel) -> None:
    memory = filled(model, tokens=24)
    table, mask = padded([ids(3, 85), ids(7, 86)])
    with_cache, without = (
        model.generate(table, memory=memory, attention_mask=mask, max_new_tokens=5, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert with_cache.tolist() == without.tolist()


def test_generation_without_cache_of_padded_prompts_equals_singles(model: MPlusModel, memory: Memory) -> None:
    rows = [ids(3, 85), ids(9, 86)]
    table, mask = padded(rows)
    options: dict[str, Any] = {"memory": memory, "max_new_tokens": 4, "do_sample": False, "use_cache": False}
    together = model.generate(table, attention_mask=mask, **options)
    for number, row in enumerate(rows):
        assert together[number, 9:].tolist() == model.generate(row[None], **options)[0, len(row) :].tolist()


def test_several_memories_answer_one_prompt(model: MPlusModel) -> None:
    memories, prompt = [filled(model), filled(model, 20)], ids(5, 87)
    together = model.generate(prompt, memory=memories, max_new_tokens=4, do_sample=False)
    for row, one in zip(together, memories, strict=True):
        assert row.tolist() == model.generate(prompt, memory=one, max_new_tokens=4, do_sample=False)[0].tolist()


def test_beams_equal_beams_of_each_prompt_alone(model: MPlusModel, memory: Memory) -> None:
    table, mask = padded([ids(4, 88), ids(6, 89)])
    options: dict[str, Any] = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False}
    together = model.generate(table, memory=memory, attention_mask=mask, **options)
    assert together[0, 6:].tolist() == model.generate(table[:1, 2:], memory=memory, **options)[0, 4:].tolist()
    assert together[1, 6:].tolist() == model.generate(table[1:], memory=memory, **options)[0, 6:].tolist()


@pytest.mark.parametrize("beams", [2, 3])
def test_beams_with_cache_equal_beams_without(model: MPlusModel, beams: int) -> None:
    """Without a cache nothing has to be reordered. The memories are small, so that both ways read all of them."""
    memories = [filled(model, tokens=24), filled(model, tokens=24, text_seed=9)]
    prompts = torch.stack([ids(5, 95), ids(5, 96)])
    options: dict[str, Any] = {"memory": memories, "max_new_tokens": 6, "num_beams": beams, "do_sample": False}
    with_cache, without = (model.generate(prompts, use_cache=use_cache, **options) for use_cache in (True, False))
    assert with_cache.tolist() == without.tolist()


def test_each_sample_reads_the_memory_of_its_own_prompt(model: MPlusModel) -> None:
    """The best token alone is drawn, so every sample of a prompt is its greedy answer."""
    memories = [filled(model), filled(model, text_seed=9)]
    prompts = torch.stack([ids(5, 97), ids(5, 98)])
    samples = model.generate(prompts, memory=memories, max_new_tokens=4, do_sample=True, top_k=1, num_return_sequences=2)
    greedy = model.generate(prompts, memory=memories, max_new_tokens=4, do_sample=False)
    assert samples.tolist() == greedy.repeat_interleave(2, 0).tolist()


def test_samples_of_one_prompt_differ_and_repeat_with_the_seed(model: MPlusModel, memory: Memory) -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(
            model.generate(ids(5, 90), memory=memory, max_new_tokens=6, do_sample=True, num_return_sequences=3, temperature=2.0)
        )
    assert draws[0].shape == (3, 11)
    assert torch.equal(*draws)
    assert len({tuple(row) for row in draws[0].tolist()}) > 1


def test_streamer_sees_every_token(model: MPlusModel, memory: Memory) -> None:
    streamer = Collect()
    out = model.generate(ids(5, 91), memory=memory, max_new_tokens=4, do_sample=False, streamer=streamer)
    assert streamer.tokens == out[0].tolist()
    assert streamer.ended


class Collect:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


# -- nothing is left behind ------------------------------------------------------------------------------------------


class Broken(Exception):
    """Raised in the middle of a pass."""


def break_last_layer(model: MPlusModel, patch: pytest.MonkeyPatch) -> None:
    def forward(*args: Any, **kwargs: Any) -> None:
        raise Broken

    patch.setattr(model.parts.decoder.layers[-1].self_attn.k_proj, "forward", forward)


@pytest.mark.parametrize("method", ["__call__", "generate"])
def test_a_failing_read_leaves_no_hook_and_no_adapter(
    model: MPlusModel, memory: Memory, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_last_layer(model, monkeypatch)
    with pytest.raises(Broken):
        getattr(model, method)(ids(5, 92)[None], memory=memory, **({"max_new_tokens": 4} if method == "generate" else {}))
    assert hooks_of(model) == 0
    assert model.parts.adapters._current is None


def test_a_failing_write_leaves_no_hook_and_loses_no_text(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where text waits for more text, that of the failed pass goes on waiting; else the memory is as if nobody had written."""
    memories = [filled(model, tokens=24), filled(model, tokens=24, write_context="memory")]
    before, chunk = [contents(memory) for memory in memories], ids(8, 93)
    break_last_layer(model, monkeypatch)
    for memory in memories:
        with pytest.raises(Broken):
            memory.write(chunk)
        assert hooks_of(model) == 0
        assert model.parts.adapters._current is None
    waits = [chunk.tolist() if memory.geometry.write.context == "memory" else [] for memory in memories]
    assert [memory.pending_ids for memory in memories] == waits and waits[1]
    for memory in memories:
        memory.become(replace(memory.state, pending=()))
    assert all(same_contents(one, contents(memory)) for one, memory in zip(before, memories, strict=True))


def test_unsupported_architecture_names_the_supported_ones() -> None:
    other = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=64))
    with pytest.raises(UnsupportedModelError) as caught:
        MPlusModel.from_base(other, geometry=tiny_geometry())
    assert "gpt2" in str(caught.value)
    assert all(name in str(caught.value) for name in SUPPORTED)


def test_a_decoder_that_sees_later_tokens_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="use_bidirectional_attention"):
        MPlusModel.from_base(tiny_decoder("gemma", use_bidirectional_attention=True), geometry=tiny_geometry())


# -- limits of a family ----------------------------------------------------------------------------------------------

SLIDING: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 64},
    "qwen2": {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
}


@pytest.mark.parametrize("sliding", sorted(SLIDING))
def test_sliding_window_is_the_limit_and_inside_it_nothing_changes(sliding: str) -> None:
    model = MPlusModel.from_base(tiny_decoder(sliding, **SLIDING[sliding]), geometry=tiny_geometry())
    assert model.parts.decoder.positions == 64
    memory = filled(model, tokens=64, memory_format="hidden")
    room = 64 - 1 - len(memory.short_term) - model.geometry.sizes.ltm_read_tokens
    prompt = ids(room, 94)
    close(model(prompt[None], memory=memory).logits[0], Plain(model).read(prompt, memory).logits)
    got = model.generate(prompt[: room - 6], memory=memory, max_new_tokens=6, do_sample=False)
    assert got.shape[1] == room
    with pytest.raises(PromptTooLongError, match="64 positions"):
        model(ids(room + 1, 94)[None], memory=memory)
    with pytest.raises(GeometryError, match="64"):
        MPlusModel.from_base(tiny_decoder(sliding, **SLIDING[sliding]), geometry=tiny_geometry(stm_tokens=48))


def test_window_that_is_switched_off_is_no_limit() -> None:
    for name in ("qwen2", "qwen3"):
        decoder = tiny_decoder(name, use_sliding_window=False, sliding_window=64)
        assert MPlusModel.from_base(decoder, geometry=tiny_geometry()).parts.decoder.positions == 512
    assert (
        MPlusModel.from_base(tiny_decoder("mistral", sliding_window=None), geometry=tiny_geometry()).parts.decoder.positions
        == 512
    )
