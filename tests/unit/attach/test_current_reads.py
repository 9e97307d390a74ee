"""Laws of reads that look for what is current, and of reads in two rounds: the same from every store and every path, off by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.errors import GeometryError, InputError
from mplus.inference.prefill import Prefill, passages_of
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.read_plan import plan_read
from mplus.retrieval.result import RetrievalResult
from mplus.trace.spans import Spans, ids_of
from tests.tiny import ids, search_from, text_model, tiny_model

PROMPT = ids(6, 99)[None]
NEWEST: dict[str, Any] = {"same_slot": "newest", "slot_tolerance": 0.6}


def filled(model: MPlusModel, **options: Any) -> Memory:
    memory = model.new_memory(seed=4, **options)
    for number in range(4):
        memory.write(ids(24, number), source=str(number))
    return memory


def read(model: MPlusModel, memory: Memory, **options: Any) -> RetrievalResult:
    retrieved = model(PROMPT, memory=memory, return_retrieved=True, **options).retrieved
    assert retrieved is not None
    return retrieved[0].layers[0]


def chosen(result: RetrievalResult) -> tuple[Any, ...]:
    return (
        result.positions.tolist(),
        result.short.tolist(),
        None if result.order is None else result.order.tolist(),
        result.behind,
    )


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    return tiny_model(setup="best_last", ltm_read_tokens=32)


# -- what is current ---------------------------------------------------------------------------------------------------


def test_the_plan_is_that_of_the_windows_that_answer_the_same(model: MPlusModel) -> None:
    memory, plain = filled(model, **NEWEST), filled(model)
    result, before = read(model, memory), read(model, plain)
    assert before.slot is None and result.slot is not None and int(result.slot.sum()) > 1
    assert result.windows is not None and bool(result.slot[result.windows.argmax()])
    table, retriever = BlockTable.of(memory, with_short_term=True), model.parts.retriever
    assert isinstance(retriever, LateInteractionRetriever)
    rule = retriever.rule(memory.geometry, recency_tail=0)
    plan = plan_read(result.windows, table.positions, table.is_short_term, rule, slot=result.slot)
    assert chosen(table.result(plan, memory, None)) == chosen(result) != chosen(before)


def test_windows_of_a_slot_match_every_word_nearly_as_well_as_the_best(model: MPlusModel) -> None:
    memory = filled(model, **NEWEST)
    result, table = read(model, memory), BlockTable.of(memory, with_short_term=True)
    assert result.windows is not None and result.slot is not None and result.match is not None
    long, short = memory.long_term.column(0, "search"), memory.short_term.at_slots(memory.short_term.order)["search"][0]
    keys = torch.cat([long, short]).view(-1, table.block, long.shape[-1])[table.numbers]
    best = int(result.windows.argmax())
    match, weight = result.match(keys.flatten(0, 1))
    by_block = match.view(1, len(weight), -1, table.block).amax(-1)
    own = weight[:, None] * torch.cat([torch.maximum(by_block[..., :-1], by_block[..., 1:]), by_block[..., -1:]], -1)[0]
    own[:, -1] = float("-inf")  # no window begins at the last block
    for window in range(len(table.positions)):
        lacks = float((own[:, best] - own[:, window]).clamp(min=0).sum())
        assert bool(result.slot[window]) is (lacks <= 0.6 * float(own[:, best].sum()))


def test_stores_and_indexes_give_the_same(model: MPlusModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = chosen(read(model, filled(model, **NEWEST)))
    assert chosen(read(model, filled(model, store=tmp_path / "disk", **NEWEST))) == expected
    search_from(monkeypatch, 8, candidates=64)
    indexed = filled(model, **NEWEST)
    assert indexed.long_term.is_indexed(0)
    assert chosen(read(model, indexed)) == expected


def test_prompts_of_a_batch_read_as_they_do_alone(model: MPlusModel) -> None:
    memory = filled(model, **NEWEST)
    prompts = torch.stack([ids(6, 99), ids(6, 98), ids(6, 97)])
    for rounds in (1, 2):
        together = model(prompts, memory=memory, return_retrieved=True, rounds=rounds).retrieved
        assert together is not None
        for prompt, found in zip(prompts, together, strict=True):
            alone = model(prompt[None], memory=memory, return_retrieved=True, rounds=rounds).retrieved
            assert alone is not None and chosen(alone[0].layers[0]) == chosen(found.layers[0])


def test_a_question_for_the_past_reads_as_before() -> None:
    model = text_model(read_order="score", ltm_read_tokens=32)
    newest, plain = model.new_memory(seed=1, same_slot="newest", slot_tolerance=0.7), model.new_memory(seed=1)
    for memory in (newest, plain):
        for number in range(5):
            memory.write(f"The gate code of the old mill is now {number}{number}17.", source=str(number))

    def places(memory: Memory, question: str) -> list[int]:
        row, query = model.reader.chat_row([{"role": "user", "content": question}], behind_memory=True)
        return [one.to_prompt for one in passages_of(model.reader, row, memory, query=query).passages]

    assert places(newest, "the gate code?") != places(plain, "the gate code?")
    assert places(newest, "the gate code before?") == places(plain, "the gate code before?")


def test_settings_that_cannot_stand_together_are_refused() -> None:
    with pytest.raises(GeometryError, match="same_slot says which retrieved span stands beside the prompt"):
        tiny_model(setup="shared", same_slot="newest")
    with pytest.raises(GeometryError, match="slot_tolerance"):
        tiny_model(setup="best_last", slot_tolerance=1.5)


# -- two rounds --------------------------------------------------------------------------------------------------------


def test_the_second_round_searches_with_the_question_behind_what_was_found(model: MPlusModel) -> None:
    memory = filled(model)
    first, both = read(model, memory), read(model, memory, rounds=2)
    retriever, table = model.parts.retriever, BlockTable.of(memory, with_short_term=True)
    assert isinstance(retriever, LateInteractionRetriever) and first.windows is not None
    spans = Spans(memory)
    found = ids_of(spans.of(int(position)) for position in retriever.best_window(memory, first))
    assert found is not None and len(found) == 2 * table.block
    again = read(model, memory, query=[*found, *PROMPT[0].tolist()])
    rule = retriever.rule(memory.geometry, recency_tail=0)
    plan = plan_read(first.windows, table.positions, table.is_short_term, rule, second=again.windows)
    assert chosen(table.result(plan, memory, None)) == chosen(both)
    assert (first.rounds, both.rounds) == (1, 2)


def test_every_way_to_read_takes_rounds(model: MPlusModel) -> None:
    memory, row = filled(model), PROMPT[0].tolist()
    expected = model(PROMPT, memory=memory, rounds=2).logits
    retrieved: list[Any] = []
    model.generate(PROMPT, memory=memory, rounds=2, max_new_tokens=2, do_sample=False, retrieved=retrieved)
    assert retrieved[0].layers[0].rounds == 2
    prefill = Prefill(model.reader, [row], [memory], rounds=2, new_tokens=1)
    prefill.advance(len(row))
    assert prefill.logits is not None and torch.allclose(prefill.logits[0], expected[0, -1], atol=1e-4)
    scores = model.log_likelihood([row], [[5]], memory, rounds=2)
    assert torch.allclose(scores[0], expected[0, -1].log_softmax(-1)[5], atol=1e-4)


@pytest.mark.parametrize("rounds", [0, 3, True, "2", None])
def test_other_rounds_are_refused(model: MPlusModel, rounds: Any) -> None:
    with pytest.raises(InputError, match="expected 1 .search once. or 2"):
        model(PROMPT, memory=filled(model), rounds=rounds)


def test_where_every_layer_searches_for_itself_there_is_one_round() -> None:
    model = tiny_model(setup="per_layer")
    with pytest.raises(InputError, match="every layer of this model searches for itself, once; leave rounds out"):
        model(PROMPT, memory=filled(model), rounds=2)
