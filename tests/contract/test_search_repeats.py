"""A prompt finds the same whatever it is searched with, and a memory that was stored finds what it found before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.errors import SnapshotError
from mplus.memory import snapshot, state_file
from mplus.memory.columns import Column
from mplus.memory.long_term import LongTerm
from mplus.memory.placement import LongGroup
from mplus.memory.state import MemoryState
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.read_plan import best_places, choose_blocks
from tests.contract.test_families import padded
from tests.tiny import SETUPS, filled, ids, search_from, tiny_model

GROUP = 64


@pytest.fixture(params=sorted(SETUPS))
def setup(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seed(setup: str) -> int:
    """Other texts for each setup."""
    return sorted(SETUPS).index(setup)


@pytest.fixture(params=["auto", "exact"])
def model(request: pytest.FixtureRequest, setup: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MPlusModel]:
    """An untrained retriever, long-term memory that forgets, summaries from 64 rows on."""
    search_from(monkeypatch, GROUP)
    yield tiny_model(setup=setup, ltm_capacity=300, search=request.param)


def found(model: MPlusModel, memory: Memory, table: Tensor, mask: Tensor | None = None) -> list[list[list[int]]]:
    """What each prompt draws from long-term memory, per layer."""
    return [one.indices for one in model(table, mask, memory=memory, return_retrieved=True).retrieved or []]


def prompts(seed: int) -> list[Tensor]:
    dice = random.Random(seed)
    return [ids(dice.randint(2, 14), 100 * seed + number) for number in range(5)]


def memory_that_forgot(model: MPlusModel, seed: int) -> Memory:
    tokens = (
        650 if model.geometry.sizes.chunk_tokens > model.geometry.sizes.new_tokens else 450
    )  # the same number of memory tokens
    memory = filled(model, tokens, seed=seed, text_seed=seed)
    assert memory.now - len(memory.short_term) - len(memory.long_term) > GROUP, "nothing was forgotten"
    assert (len(memory.long_term.indexes[0]) > 0) == (model.geometry.read.search == "auto")
    return memory


def test_padded_prompts_in_any_order_find_what_each_finds_alone(model: MPlusModel, seed: int) -> None:
    memory, rows = memory_that_forgot(model, seed), prompts(seed)
    alone = [found(model, memory, row[None])[0] for row in rows]
    table, mask = padded(rows)
    assert found(model, memory, table, mask) == alone
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    assert found(model, memory, table[order], mask[order]) == [alone[number] for number in order]


def test_a_stored_memory_that_forgot_finds_what_it_found_before(model: MPlusModel, seed: int, tmp_path: Path) -> None:
    """Also when it was stored again unsearched, and after more was written into both."""
    memory, rows = memory_that_forgot(model, seed), prompts(seed)
    before = [found(model, memory, row[None]) for row in rows]
    memory.save(tmp_path / "one")
    Memory.load(tmp_path / "one", model).save(tmp_path / "two")
    opened = Memory.load(tmp_path / "two", model)
    twin = opened.fork()
    assert [found(model, opened, row[None]) for row in rows] == before
    for one in (memory, opened, twin):
        one.write(ids(150, seed + 50))
    after = [found(model, memory, row[None]) for row in rows]
    assert [found(model, opened, row[None]) for row in rows] == after
    assert [found(model, twin, row[None]) for row in rows] == after


def test_what_summaries_follow_from_is_not_only_the_rows_held(
    setup: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the forgotten rows that an index was fitted to, another would be made: so the test above tests that they are kept."""
    search_from(monkeypatch, GROUP)
    model = tiny_model(setup=setup, ltm_capacity=300)
    memory = memory_that_forgot(model, 3)
    memory.save(tmp_path / "with")
    same, other = Memory.load(tmp_path / "with", model), Memory.load(tmp_path / "with", model)
    placement = other.placement
    long = tuple(LongGroup(Column(group.rows), Column(group.births)) for group in placement.long)
    held = LongTerm(other.layout, other.geometry, other.codec, other.state.log, long)
    other.become(replace(other.state, placement=replace(placement, long=long), long_term=held))
    assert placement.long[0].skipped > 0
    kept, again, made_anew = (fitted(one) for one in (memory, same, other))
    assert len(kept) == len(again) and all(torch.equal(value, one) for value, one in zip(kept, again, strict=True))
    assert len(kept) != len(made_anew) or any(not torch.equal(value, one) for value, one in zip(kept, made_anew, strict=True))


def fitted(memory: Memory) -> list[Tensor]:
    """What the short forms of the last group's index are relative to (in the first layer keys follow from the token alone)."""
    index = memory.long_term.index_of(memory.long_term.groups - 1)
    assert index is not None
    return [matrix for slab in index._held[0] for matrix in slab.fitted.values()]


@pytest.mark.parametrize(
    "change", [{"skipped": -1}, {"skipped": 10_000}, {"skipped": 1.5}, {"tokens": 5}, {"forgotten": -3}, {"forgotten": None}]
)
def test_rows_of_an_index_that_cannot_be_are_refused_in_one_sentence(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    search_from(monkeypatch, GROUP)
    model = tiny_model(setup="per_layer", ltm_capacity=300)
    memory = filled(model, 450)
    described = state_file.json_of

    def damaged(state: MemoryState) -> dict[str, Any]:
        out = described(state)
        out["long"][1] |= change
        return out

    monkeypatch.setattr(state_file, "json_of", damaged)
    monkeypatch.setattr(snapshot, "check_numbers", lambda *args: None)
    memory.save(tmp_path / "saved")
    monkeypatch.undo()
    with pytest.raises(SnapshotError, match="damaged") as caught:
        Memory.load(tmp_path / "saved", model)
    assert "\n" not in str(caught.value)


# -- equal scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_of_equal_scores_the_earlier_place_is_chosen(seed: int) -> None:
    dice = random.Random(seed)
    scores = torch.tensor([dice.choice([0.0, 0.5, 1.0, float("-inf"), float("inf")]) for _ in range(dice.randint(1, 400))])
    wanted = sorted(range(len(scores)), key=lambda place: (-float(scores[place]), place))
    for count in (0, 1, 2, len(scores) // 2, len(scores), len(scores) + 3):
        assert best_places(scores, count).tolist() == wanted[:count]


def test_scores_that_are_no_numbers_are_the_last_choice() -> None:
    assert best_places(torch.tensor([float("nan"), 0.0, float("nan"), 1.0]), 3).tolist() == [3, 1, 0]


def test_equal_windows_are_chosen_from_the_oldest_on() -> None:
    assert choose_blocks(torch.ones(1000), torch.arange(1000), 3, 0).tolist() == [0, 1, 2]


def test_padding_changes_neither_the_loudest_tokens_nor_their_order() -> None:
    """Of a prompt whose tokens weigh the same, the first are the loudest, with padding before them or without."""
    retriever = LateInteractionRetriever((0,), 8)
    features = torch.randn(1, 20, 8, generator=torch.Generator().manual_seed(1))
    text = torch.arange(20)[None] >= 6
    _, alone = retriever.queries([features[:, 6:]], text[:, 6:])
    _, with_padding = retriever.queries([features], text)
    assert best_places(alone[0], 8).tolist() == list(range(8))
    assert (best_places(with_padding[0], 8) - 6).tolist() == list(range(8))
