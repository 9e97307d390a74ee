"""Laws of a memory as a value: writing, waiting text, forks, repeats, what is refused without a trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mplus import MPlusModel
from mplus.errors import EmptyTextError, GeometryError, InputError
from mplus.memory.rows import EncodedChunk
from mplus.settings import WriteContext
from mplus.text.prompts import SEPARATOR
from tests.conftest import TinyModel
from tests.tiny import SETUPS, contents, filled, ids, same_contents

FORMATS = ["hidden", "kv"]


@pytest.fixture(params=sorted(SETUPS))
def each(request: pytest.FixtureRequest, tiny_model: TinyModel) -> MPlusModel:
    """Every setup in turn."""
    return tiny_model("llama", str(request.param))


# -- growing -------------------------------------------------------------------------------------------------------


def test_new_memory_of_an_adapted_model_is_empty(model: MPlusModel) -> None:
    memory = model.new_memory()
    assert (len(memory.short_term), len(memory.long_term), memory.now, memory.pending_tokens) == (0, 0, 0, 0)


def test_chunk_of_t_tokens_gives_t_memory_tokens_with_the_input_tap(model: MPlusModel) -> None:
    memory = model.new_memory()
    for size, total in ((5, 5), (2, 7), (8, 15)):
        memory.write(ids(size, size))
        assert (len(memory.short_term), memory.now) == (total, total)


def test_short_chunk_gives_k_memory_tokens_with_the_output_tap(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "output")
    memory = model.new_memory()
    memory.write(ids(8, 1))
    memory.write(ids(3, 2))
    assert memory.now == 8 + 8  # 5 old tokens were refreshed along with the 3 new ones


def test_pool_grows_to_n_and_stays_there(each: MPlusModel) -> None:
    memory, size = each.new_memory(), each.geometry.sizes.stm_tokens
    sizes = []
    for step in range(12):
        memory.write(ids(each.geometry.sizes.chunk_tokens, step))
        sizes.append(len(memory.short_term))
    assert max(sizes) == size and sizes[-1] > size - each.geometry.read.block_tokens
    assert sizes == sorted(sizes) or each.geometry.write.drop == "shared"


def test_no_token_is_lost_below_the_capacity_of_long_term_memory(each: MPlusModel) -> None:
    memory = filled(each, tokens=90)
    for group in range(memory.long_term.groups):
        births = memory.placement.births[group % memory.placement.groups].tolist() + memory.long_term.births(group).tolist()
        assert len(births) == memory.now
        if each.geometry.quirks.stm_ages == "since_written":  # else births are moved so that ages stand still
            assert sorted(births) == list(range(memory.now))


def test_memory_without_ltm_is_memoryllm(each: MPlusModel) -> None:
    with_ltm, without = filled(each, tokens=90), filled(each, tokens=90, ltm=False)
    assert len(without.long_term) == 0 and len(with_ltm.long_term) > 0
    assert without.stats().ltm_capacity == 0
    assert torch.equal(with_ltm.placement.births, without.placement.births)
    prompt = ids(6, 99)[None]
    out = each(prompt, memory=without, return_retrieved=True)
    assert out.retrieved is not None and out.retrieved[0].layers == []
    with_ltm.geometry = without.geometry
    with_ltm.become(replace(with_ltm.state, long_term=without.long_term))
    torch.testing.assert_close(out.logits, each(prompt, memory=with_ltm).logits, atol=1e-5, rtol=1e-5)


def test_nothing_dropped_is_kept_when_told_so(each: MPlusModel) -> None:
    memory = filled(each, tokens=24)
    before = len(memory.long_term)
    memory.update(each.encode(ids(8, 5), memory), keep_dropped=False)
    assert len(memory.long_term) == before


# -- sources apart ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("setup", ["shared", "per_layer", "mixed"])
def test_rows_of_a_source_do_not_depend_on_what_else_is_written(tiny_model: TinyModel, setup: str, memory_format: Any) -> None:
    model = tiny_model("llama", setup, stm_tokens=96)
    memory, alone = (model.new_memory(memory_format=memory_format) for _ in range(2))
    for step in range(6):
        memory.write(ids(5, step), source="a", share=False)
        memory.write(ids(2 + step, 10 + step), source=f"other {step}", share=False)
        alone.write(ids(5, step), source="a", share=False)
    assert memory.pending_tokens == 0
    own = [rank for rank, birth in enumerate(memory.placement.births[0].tolist()) if memory.ledger.chunk_of(birth).source == "a"]  # type: ignore[union-attr]
    held, wanted = (one.short_term.at_slots(one.short_term.order) for one in (memory, alone))
    for name, rows in wanted.items():
        assert torch.equal(held[name][:, own], rows), name


def test_a_chunk_sees_the_newest_tokens_of_its_own_source_only(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "shared", stm_tokens=96)
    both, one, none = (model.new_memory() for _ in range(3))
    both.write(ids(8, 1), source="a")
    both.write(ids(8, 2), source="a")
    one.write(ids(8, 2), source="a", share=False)
    none.write(ids(8, 1), source="b")
    none.write(ids(8, 2), source="a", share=False)
    newest = [memory.short_term.newest(8) for memory in (both, one, none)]
    assert torch.equal(newest[1]["keys"], newest[2]["keys"]) and not torch.equal(newest[0]["keys"], newest[1]["keys"])


# -- waiting text --------------------------------------------------------------------------------------------------


def test_short_text_waits_and_joins_the_next_write(text_model: MPlusModel) -> None:
    memory = text_model.new_memory(write_context="memory")
    assert memory.write("One. ", source="a") == 5
    assert (memory.pending_tokens, memory.now, memory.tokens_read) == (5, 0, 0)
    memory.write("Two three. ", source="b")
    assert (memory.pending_tokens, memory.tokens_read) == (0, 16)
    assert memory.ledger.chunks[0].sources == (("a", 5), ("b", 11))
    whole = text_model.new_memory(write_context="memory")
    whole.write("One. Two three. ")
    for name, rows in whole.short_term.at_slots(whole.short_term.order).items():
        assert torch.equal(rows, memory.short_term.at_slots(memory.short_term.order)[name])


def test_waiting_text_is_read_as_plain_text_before_the_prompt(each: MPlusModel) -> None:
    memory = filled(each, tokens=24, write_context="memory")
    twin, waiting, prompt = memory.fork(), ids(1, 7), ids(5, 8)
    memory.write(waiting)
    assert memory.pending_tokens == 1
    got = each(prompt[None], memory=memory, output_hidden_states=True)
    joined = torch.cat([waiting, prompt])[None]
    expected = each(joined, memory=twin, output_hidden_states=True, query=prompt)  # what waits does not search
    assert torch.equal(got.logits, expected.logits[:, 1:])
    assert got.hidden_states is not None and expected.hidden_states is not None
    assert torch.equal(got.hidden_states[1], expected.hidden_states[1][:, 1:])
    answer = each.generate(prompt, memory=memory, max_new_tokens=4, do_sample=False)
    whole = each.generate(joined, memory=twin, max_new_tokens=4, do_sample=False, query=prompt)
    assert answer.tolist() == whole[:, 1:].tolist()


def test_waiting_texts_of_a_batch_stand_before_their_own_prompts(each: MPlusModel) -> None:
    memories = [filled(each, tokens=24, text_seed=seed, write_context="memory") for seed in (1, 2)]
    memories.append(each.new_memory(write_context="memory"))
    memories[1].write(ids(1, 7))
    assert [memory.pending_tokens for memory in memories] == [0, 1, 0]
    prompts = torch.stack([ids(5, seed) for seed in (11, 12, 13)])
    together = each(prompts, memory=memories).logits
    alone = torch.cat([each(row[None], memory=one).logits for row, one in zip(prompts, memories, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_what_waits_is_never_too_long_for_one_chunk(text_model: MPlusModel) -> None:
    memory = text_model.new_memory(write_context="memory")
    memory.write("a" * 6 + " ")  # white space at the end: no separator
    memory.write("b" * 32)
    assert (memory.pending_tokens, memory.tokens_read) == (0, 39)
    assert [chunk.rows for chunk in memory.ledger.chunks] == [20, 19]
    assert memory.ledger.tokens_by_source() == {"": 39}


def test_text_is_cut_where_the_model_cuts_it(text_model: MPlusModel) -> None:
    text = "A first sentence is here. And one more of them. Then a third, rather long one, follows. End."
    contexts: tuple[tuple[WriteContext, str], ...] = (("source", SEPARATOR + text), ("memory", text))
    for context, cut in contexts:
        memory = text_model.new_memory(write_context=context)
        memory.write(text)
        sizes = [len(chunk) for chunk in text_model.cut(cut)]
        assert [chunk.rows for chunk in memory.ledger.chunks] + ([memory.pending_tokens] if memory.pending else []) == sizes


# -- copies and repeats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", FORMATS)
def test_fork_then_write_leaves_parent_unchanged(each: MPlusModel, memory_format: Any) -> None:
    parent = filled(each, memory_format=memory_format)
    before = contents(parent)
    twin = parent.fork()
    assert same_contents(before, contents(twin))
    twin.write(ids(40, 6), source="later")
    twin.write(ids(1, 7))
    assert same_contents(before, contents(parent))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_writing_to_the_parent_leaves_its_fork_unchanged(each: MPlusModel, memory_format: Any) -> None:
    parent = filled(each, memory_format=memory_format)
    twin = parent.fork()
    before = contents(twin)
    parent.write(ids(40, 6))
    assert same_contents(before, contents(twin))


def test_forks_that_write_the_same_stay_the_same(each: MPlusModel) -> None:
    parent = filled(each)
    first, second = parent.fork(), parent.fork()
    for twin in (first, second):
        twin.write(ids(40, 6))
    assert same_contents(contents(first), contents(second))


def test_run_repeats_exactly_with_the_same_seed(each: MPlusModel) -> None:
    runs = [filled(each, tokens=90, seed=8) for _ in range(2)]
    assert same_contents(contents(runs[0]), contents(runs[1]))
    prompt = ids(6, 9)[None]
    assert torch.equal(each(prompt, memory=runs[0]).logits, each(prompt, memory=runs[1]).logits)


def test_random_state_of_torch_neither_matters_nor_changes(each: MPlusModel) -> None:
    torch.manual_seed(1)
    first = filled(each, tokens=90)
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert same_contents(contents(first), contents(filled(each, tokens=90)))


def test_another_seed_drops_other_tokens(each: MPlusModel) -> None:
    first, second = filled(each, tokens=90, seed=1), filled(each, tokens=90, seed=2)
    assert not torch.equal(first.placement.births, second.placement.births)


def test_cleared_memory_is_as_new_and_writes_as_new(each: MPlusModel) -> None:
    memory = filled(each, seed=5)
    memory.write(ids(1, 2))
    memory.clear()
    assert same_contents(contents(memory), contents(each.new_memory(seed=5)))
    memory.write(ids(61, 1))
    assert same_contents(contents(memory), contents(filled(each, seed=5)))


# -- counts --------------------------------------------------------------------------------------------------------


def test_stats_count_what_was_written(text_model: MPlusModel) -> None:
    counts: tuple[tuple[WriteContext, int, int, int], ...] = (("memory", 104, 3, 4), ("source", 111, 0, 5))
    for context, read, waits, chunks in counts:
        memory = text_model.new_memory(write_context=context)
        memory.write("x" * 103 + " ", source="book")
        memory.write("y" * 3, source="note")
        stats = memory.stats()
        assert (stats.tokens_read, stats.pending_tokens) == (read, waits)
        assert stats.stm_tokens + stats.ltm_tokens == read
        assert (stats.stm_capacity, stats.ltm_capacity) == (64, 400)
        assert stats.chunks == len(memory.ledger.chunks) == chunks
        assert stats.sources == ({"book": 104} if waits else {"book": 106, "note": 5})
        kv = 2 * 2 * 8 * 4 * 2  # keys and values of 2 heads of 8 numbers of 4 bytes in 2 layers
        search = 4 * memory.layout.fields["search"][0]
        assert stats.size_bytes == (read + stats.stm_tokens) * (
            kv + search
        )  # short-term rows lie in the log and where the model computes


def test_progress_counts_up_to_the_whole_text(text_model: MPlusModel) -> None:
    seen: list[int] = []
    total = text_model.new_memory().write("word " * 30, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == total == 150 + len(SEPARATOR)
    assert len(seen) > 3


# -- what is refused, without a trace --------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["", "  \n\t ", [], torch.empty(0, dtype=torch.long)])
def test_empty_text_is_refused(text_model: MPlusModel, nothing: Any) -> None:
    memory = text_model.new_memory()
    with pytest.raises(EmptyTextError, match="nothing to write"):
        memory.write(nothing)
    assert same_contents(contents(memory), contents(text_model.new_memory()))


def test_text_without_a_tokenizer_is_refused(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="token ids"):
        model.new_memory().write("hello")


@pytest.mark.parametrize("wrong", [101, -1])
def test_token_id_of_another_vocabulary_is_refused_and_nothing_changes(model: MPlusModel, wrong: int) -> None:
    memory = filled(model)
    before = contents(memory)
    with pytest.raises(InputError, match=r"0\.\.100"):
        memory.write([*ids(30, 1).tolist(), wrong])
    assert same_contents(before, contents(memory))


def test_chunk_longer_than_one_write_is_refused(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="at most 8 tokens, got 9"):
        model.encode(ids(9, 1))


def test_chunk_of_another_form_is_refused_and_nothing_changes(each: MPlusModel) -> None:
    memory = filled(each, memory_format="kv")
    before = contents(memory)
    written = each.encode(ids(4, 1), each.new_memory(memory_format="hidden"))
    with pytest.raises(InputError, match="another form"):
        memory.update(written)
    with pytest.raises(InputError, match="another form"):
        memory.update(EncodedChunk({}, 0))
    assert same_contents(before, contents(memory))


def test_too_few_dropped_ranks_are_refused_and_nothing_changes(each: MPlusModel) -> None:
    memory = filled(each, tokens=each.geometry.sizes.chunk_tokens * 6)
    before = contents(memory)
    with pytest.raises(InputError, match="do not fit"):
        memory.update(each.encode(ids(8, 1), memory), dropped=torch.empty(memory.short_term.drop_groups, 0, dtype=torch.int64))
    assert same_contents(before, contents(memory))


def test_ranks_that_cut_a_block_in_two_are_refused_where_blocks_are_found(model: MPlusModel) -> None:
    memory = filled(model, tokens=16)
    written = model.encode(ids(4, 1), memory)
    with pytest.raises(InputError, match="whole blocks"):
        memory.update(written, dropped=torch.tensor([[1, 2, 3, 4]]))
    memory.update(written, dropped=torch.tensor([[4, 5, 6, 7]]))
    assert memory.long_term.births(0).tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "changed",
    [
        {"write_tap": "output"},
        {"memory_projection": "read"},
        {"retrieval": "per_layer"},
        {"inv_freq_dtype": "bfloat16"},
        {"stm": 3},
    ],
)
def test_memory_cannot_change_what_belongs_to_the_model(model: MPlusModel, changed: dict[str, Any]) -> None:
    with pytest.raises(GeometryError):
        model.new_memory(**changed)


def test_memory_cannot_have_long_term_rows_without_a_retriever(tiny_model: TinyModel) -> None:
    with pytest.raises(GeometryError, match="ltm"):
        tiny_model("llama", "shared", ltm=False).new_memory(ltm=True)


def test_unknown_memory_format_is_refused(model: MPlusModel) -> None:
    with pytest.raises(InputError, match="hidden"):
        model.new_memory(memory_format="fp4")  # type: ignore[arg-type]


# -- many small writes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 4, 12])
def test_odd_sizes_of_writes_and_blocks_keep_a_memory_readable(tiny_model: TinyModel, block: int) -> None:
    """Slabs of long-term memory hold 256 rows at first: blocks of 12 do not divide them."""
    model = tiny_model("llama", "shared", block_tokens=block, ltm_read_tokens=24, ltm_capacity=420, stm_tokens=40)
    memory, generator = model.new_memory(), torch.Generator().manual_seed(3)
    for step in range(100):
        memory.write(ids(int(torch.randint(2, 9, (), generator=generator)), step))
        births = memory.long_term.births(0)
        assert len(births) % block == 0 and len(births) <= 420
    assert len(memory.long_term) > 300
    out = model(ids(5, 1)[None], memory=memory, return_retrieved=True)
    assert out.retrieved is not None and len(out.retrieved[0].indices[0]) == 24
