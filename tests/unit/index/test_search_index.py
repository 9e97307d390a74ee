"""Laws of summaries: who is summarised, what forgetting and forking do, and that a candidate's score is the exact one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import MPlusModel
from mplus.attach.query_pass import prompt_features, query_states
from mplus.errors import GeometryError
from mplus.index import int8_keys
from mplus.index.int8_keys import Int8Keys, linear_surrogate, products
from mplus.index.pca_sketch import PcaSketch
from mplus.index.pieces import groups
from mplus.memory.log import RowLog
from mplus.memory.memory import Memory
from mplus.retrieval import block_scores
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from mplus.retrieval.result import RetrievalResult
from tests.tiny import contents, filled, ids, same_contents, search_from, tiny_geometry, tiny_model

pytestmark = pytest.mark.slow

WIDTH = 6
GROUP, BLOCK = 256, 4
Kind = type[Int8Keys] | type[PcaSketch]
KINDS: list[Kind] = [Int8Keys, PcaSketch]


def made(kind: Kind) -> Int8Keys | PcaSketch:
    return Int8Keys(group_rows=GROUP) if kind is Int8Keys else PcaSketch(BLOCK, group_rows=GROUP)


def keys_of(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def log_of(keys: Tensor) -> RowLog:
    log = RowLog({"search": (tuple(keys.shape[1:]), torch.float32)})
    for part in keys.split(100):
        log = with_keys(log, part)
    return log


def with_keys(log: RowLog, keys: Tensor) -> RowLog:
    return log.appended({"search": keys})[0] if len(keys) else log


def keys_in(log: RowLog, first: int = 0) -> Tensor:
    """Keys of the rows held, from the one at `first` on."""
    return log.gather(torch.arange(log.start + first, log.end), ("search",))["search"]


@pytest.fixture(params=["shared", "best_last", "recent", "per_layer"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[MPlusModel]:
    """Tiny models of both ways to search, whose stores are summarised from 256 rows on."""
    search_from(monkeypatch, GROUP)
    yield tiny_model(setup=request.param, ltm_capacity=2000)


def found(model: MPlusModel, memory: Memory, prompt: Tensor, **options: Any) -> list[list[int]]:
    """What a prompt finds, straight from the searching functions."""
    text = torch.ones_like(prompt, dtype=torch.bool)
    retriever = model.parts.retriever
    assert retriever is not None
    if retriever.in_each_layer:
        normed = torch.randn(prompt.shape[0], prompt.shape[1], 32, generator=torch.Generator().manual_seed(4))
        states = [{layer: normed} for layer in range(2)]
    else:
        states = [query_states(model.parts, retriever.layers, prompt, text)]
    return [one.indices.tolist() for part in states for one in retriever.search(memory, part, text, **options)]


def summarise(summaries: Int8Keys | PcaSketch, log: RowLog) -> None:
    summaries.refresh([keys_in(log, len(summaries))])


# -- pieces of a log -----------------------------------------------------------------------------------------------


def test_groups_are_consecutive_rows_however_they_come() -> None:
    keys = keys_of(1000)
    log = log_of(keys).trimmed(36)
    assert len(log.extents) > 1
    cut = list(groups((extent.part(log.fields, "search") for extent in log.extents), 300))
    assert [group.shape[0] for group in cut] == [300, 300, 300]
    assert torch.equal(torch.cat(cut), keys[36:936])
    assert list(groups([], 3)) == []


# -- laws of both kinds --------------------------------------------------------------------------------------------


def plain_matches(keys: Tensor, query: Tensor) -> Tensor:
    return (query @ keys.T).view(query.shape[0], -1, BLOCK).amax(-1)


def check_same_as_fresh(summaries: Int8Keys | PcaSketch, held: Tensor, first: int) -> None:
    """A summary that has lived equals one made of the same groups at once; `held` are the rows not forgotten, from `first` on."""
    count = len(summaries)
    assert 0 <= held.shape[0] - count < GROUP
    if isinstance(summaries, PcaSketch):  # six directions of six: a sketch is the key itself
        query = keys_of(3, seed=9)
        assert torch.allclose(summaries.maxsim(query), plain_matches(held[:count], query), atol=1e-4)
    else:
        score = lambda keys: keys @ keys_of(1, seed=9)[0]  # noqa: E731
        assert summaries.candidates(score, 10 * held.shape[0]).tolist() == list(range(count))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_random_life_leaves_the_summaries_of_what_is_held(kind: Kind, seed: int) -> None:
    dice = random.Random(seed)
    log, summaries = log_of(keys_of(0)), made(kind)
    every, first = keys_of(0), 0
    for step in range(40):
        new = keys_of(BLOCK * dice.randint(1, 60), seed=100 * seed + step)
        log = with_keys(log, new)
        every = torch.cat([every, new])
        if dice.random() < 0.4:
            gone = BLOCK * dice.randint(0, 80)
            gone = min(gone, len(log))
            log = log.trimmed(log.start + gone)
            summaries.forget(gone)
            first += gone
        summarise(summaries, log)
        check_same_as_fresh(summaries, every[first:], first)
        if dice.random() < 0.2:
            twin, other = summaries.fork(), with_keys(log, keys_of(GROUP, seed=7))
            summarise(twin, other)
            twin.forget(BLOCK)
            check_same_as_fresh(summaries, every[first:], first)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_summarised_once_and_forgetting_reads_none(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    summaries, log = made(kind), log_of(keys_of(0))
    add = summaries.add

    def counted(keys: Tensor) -> None:
        seen.append(keys.shape[0])
        add(keys)

    monkeypatch.setattr(summaries, "add", counted)
    for step in range(60):
        log = with_keys(log, keys_of(100, step))
        summarise(summaries, log)
        gone = max(0, len(log) - 1200)
        log = log.trimmed(log.start + gone)
        before = len(seen)
        summaries.forget(gone)
        assert len(seen) == before
        assert len(summaries) <= 1200
    assert sum(seen) == 60 * 100 // GROUP * GROUP


def test_a_linear_surrogate_is_the_score_where_that_is_linear_and_follows_its_high_end_elsewhere() -> None:
    keys, direction = keys_of(2000, 1, 16), keys_of(1, 2, 16)[0]
    weights, offset = linear_surrogate(keys, keys @ direction + 3)
    assert torch.allclose(weights, direction, atol=1e-2) and abs(float(offset) - 3) < 1e-2
    score = torch.sigmoid(keys @ torch.stack([direction, direction + 0.3 * keys_of(1, 5, 16)[0]]).T - 4).mean(
        1
    )  # nearly flat for most
    weights, _ = linear_surrogate(keys, score)
    best = score.topk(20).indices
    assert set(best.tolist()) <= set((keys @ weights).topk(60).indices.tolist())


def test_whole_number_products_are_exact() -> None:
    dice = torch.Generator().manual_seed(1)
    left = torch.randint(-127, 128, (1001, 48), dtype=torch.int8, generator=dice)
    right = torch.randint(-127, 128, (48,), dtype=torch.int8, generator=dice)
    expected = left.long() @ right.long()
    assert torch.equal(products(left, right).long(), expected)


def test_products_without_the_private_kernel_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = torch.full((9, 300), 127, dtype=torch.int8), torch.full((300,), -127, dtype=torch.int8)
    monkeypatch.setattr(int8_keys, "_has_int8_products", lambda: False)
    assert products(left, right).tolist() == [-127 * 127 * 300] * 9


def test_the_best_bunch_is_among_few_candidates() -> None:
    summaries = Int8Keys(group_rows=4096)
    keys = torch.randn(8192, 16, generator=torch.Generator().manual_seed(1))
    right = torch.randperm(8192, generator=torch.Generator().manual_seed(2))[:32]
    keys[right] = 3.0 + 0.05 * torch.randn(32, 16, generator=torch.Generator().manual_seed(3))
    summaries.add(keys[:4096])
    summaries.add(keys[4096:])
    rows = summaries.candidates(lambda part: part.sum(1), 256)
    assert 128 <= rows.shape[0] <= 512
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert set(right.tolist()) <= set(rows.tolist())


def test_narrow_sketches_find_what_lies_in_few_directions() -> None:
    plane = torch.randn(32, 96, generator=torch.Generator().manual_seed(1))
    keys = torch.randn(4096, 32, generator=torch.Generator().manual_seed(2)) @ plane
    query = keys_of(3, seed=5, width=96)
    summaries = PcaSketch(BLOCK)
    summaries.add(keys)
    exact = plain_matches(keys, query)
    assert torch.allclose(summaries.maxsim(query), exact, atol=1e-3 * float(exact.abs().max()))


# -- searching -----------------------------------------------------------------------------------------------------


def test_a_small_store_is_searched_exactly_and_has_no_summaries(small: MPlusModel) -> None:
    memory = filled(small, 61)
    assert memory.long_term.index_of(0) is None
    assert found(small, memory, ids(6)[None]) == found(small, memory, ids(6)[None], exact=True)


def test_with_all_as_candidates_the_search_is_the_exact_one(small: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    search_from(monkeypatch, GROUP, candidates=10_000)
    memory = filled(small, 900)
    assert len(memory.long_term.indexes[0]) >= GROUP
    prompts = torch.stack([ids(9, 5), ids(9, 6)])
    assert found(small, memory, prompts) == found(small, memory, prompts, exact=True)


def test_candidates_have_the_exact_scores_and_others_none(small: MPlusModel) -> None:
    memory = filled(small, 900)
    prompt, model_parts = ids(7, 5)[None], small.parts
    text = torch.ones_like(prompt, dtype=torch.bool)
    if isinstance(model_parts.retriever, LateInteractionRetriever):
        features = prompt_features(model_parts, prompt, text)
        places = BlockTable.of(memory, with_short_term=memory.geometry.read.beside_prompt is not None)
        summaries = memory.long_term.index_of(0)
        assert isinstance(summaries, PcaSketch)
        exact = block_scores.of_all(model_parts.retriever, memory, places, features, text)
        got = block_scores.of_candidates(model_parts.retriever, memory, places, summaries, features, text)
        scored = got > float("-inf")
        assert 0 < int(scored.sum()) < scored.numel()
        assert torch.allclose(got[scored], exact[scored], atol=1e-5)
        if places.short:
            assert bool(scored[0][places.numbers >= places.long].all()), "a short-term block was not scored"
        fresh = (places.numbers >= len(summaries) // memory.geometry.read.block_tokens) & (places.numbers < places.long)
        assert bool(scored[0][fresh].all()), "a block that is not summarised yet was not scored"
        return
    assert isinstance(model_parts.retriever, PerLayerRetriever)
    normed = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(4))
    fast = model_parts.retriever.search(memory, {1: normed}, text)[0]
    slow = model_parts.retriever.search(memory, {1: normed}, text, exact=True)[0]
    assert fast.candidates is not None and fast.scores is not None and slow.scores is not None
    assert fast.candidates.shape[0] < slow.scores.shape[0]
    assert torch.allclose(fast.scores, slow.scores[fast.candidates], atol=1e-5)


def test_a_batch_finds_what_its_prompts_find_alone(small: MPlusModel) -> None:
    memory = filled(small, 900)
    prompts = torch.stack([ids(9, 5), ids(9, 6)])
    if memory.geometry.read.is_shared:
        assert found(small, memory, prompts) == [found(small, memory, prompt[None])[0] for prompt in prompts]


def test_reading_a_summarised_memory_changes_none_of_it(small: MPlusModel) -> None:
    memory = filled(small, 900)
    before = contents(memory)
    first = small.generate(ids(6), memory=memory, max_new_tokens=3, do_sample=False)
    again = small.generate(ids(6), memory=memory, max_new_tokens=3, do_sample=False)
    assert torch.equal(first, again)
    assert same_contents(before, contents(memory))


def test_fork_then_write_leaves_the_parents_search_unchanged(small: MPlusModel) -> None:
    memory = filled(small, 900)
    before = found(small, memory, ids(6)[None])
    twin = memory.fork()
    assert found(small, twin, ids(6)[None]) == before
    twin.write(ids(300, 8))
    assert found(small, memory, ids(6)[None]) == before


def test_capacity_forgets_summaries_with_their_rows(small: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    search_from(monkeypatch, GROUP, candidates=10_000)
    memory = small.new_memory(seed=3, ltm_capacity=600)
    memory.write(ids(1500, 2))
    assert len(memory.long_term) <= 600
    assert len(memory.long_term.indexes[0]) <= 600
    assert found(small, memory, ids(6)[None]) == found(small, memory, ids(6)[None], exact=True)


def test_a_stored_memory_is_summarised_at_its_first_search(small: MPlusModel, tmp_path: Path) -> None:
    memory = filled(small, 900, store=tmp_path / "rows")
    before = found(small, memory, ids(6)[None])
    memory.save(tmp_path / "saved")
    opened = Memory.load(tmp_path / "saved", small)
    assert len(opened.long_term.indexes[0]) == 0
    assert found(small, opened, ids(6)[None]) == before
    assert len(opened.long_term.indexes[0]) == len(memory.long_term.indexes[0])


def test_cleared_memory_has_no_summaries(small: MPlusModel) -> None:
    memory = filled(small, 900)
    memory.clear()
    assert all(len(summaries) == 0 for summaries in memory.long_term.indexes)


@pytest.mark.parametrize("changed", [{"search": "exact"}, {"eviction": "countdown"}, {}])
def test_where_every_row_counts_nothing_is_summarised(
    small: MPlusModel, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not changed:
        search_from(monkeypatch, 10_000)
    geometry = small.geometry.changed(**changed)
    memory = small.new_memory(seed=1)
    memory.geometry = memory.long_term.geometry = geometry
    assert not memory.long_term.is_indexed(0)
    assert memory.long_term.index_of(0) is None


@pytest.mark.parametrize("changed", [{"search": "fast"}])
def test_bad_setting_is_one_sentence_that_names_the_field(changed: dict[str, Any]) -> None:
    with pytest.raises(GeometryError, match=next(iter(changed))) as caught:
        tiny_geometry(**changed)
    assert "\n" not in str(caught.value)


def test_places_are_worked_out_once_for_an_unchanged_memory() -> None:
    model = tiny_model(setup="best_last")
    memory = filled(model, 100)
    first = BlockTable.of(memory, with_short_term=True)
    assert BlockTable.of(memory, with_short_term=True) is first
    assert BlockTable.of(memory, with_short_term=False) is not first
    memory.write(ids(8, 5))
    assert BlockTable.of(memory, with_short_term=True) is not first


def test_exact_can_be_asked_of_a_single_read(small: MPlusModel) -> None:
    memory = filled(small, 900)
    prompt = ids(6, 12)[None]
    always = memory.fork()
    always.geometry = always.geometry.changed(search="exact")

    def drawn(memory: Memory, exact: bool) -> RetrievalResult:
        retrieved = small(prompt, memory=memory, return_retrieved=True, exact=exact).retrieved
        assert retrieved is not None
        return retrieved[0].layers[-1]

    assert torch.equal(drawn(memory, True).indices, drawn(always, False).indices)
    fast = drawn(memory, False)
    assert fast.candidates is not None or bool(torch.isinf(torch.as_tensor(fast.scores)).any())
    text = small.generate(prompt, memory, max_new_tokens=3, do_sample=False, exact=True)
    assert torch.equal(text, small.generate(prompt, always, max_new_tokens=3, do_sample=False))
