"""Laws of what is read without scores: the newest, or random tokens that repeat; numbers are those of plain concatenation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.evaluation.unscored import UnscoredRetriever
from tests.conftest import TinyModel
from tests.contract.plain import Plain
from tests.tiny import SETUPS, contents, filled, ids, same_contents

PROMPT = 7


@pytest.fixture(params=sorted(SETUPS))
def model(request: pytest.FixtureRequest, tiny_model: TinyModel) -> MPlusModel:
    return tiny_model("llama", str(request.param))


def drawn(model: MPlusModel, memory: Memory, seed: int = 23) -> list[list[int]]:
    """Indices read, per layer or once for all."""
    found = model(ids(PROMPT, seed)[None], memory=memory, return_retrieved=True).retrieved
    assert found is not None
    return found[0].indices


def unscored(model: MPlusModel, choice: str, tokens: int = 61, **options: Any) -> Memory:
    """A filled memory of which the newest or random tokens are read; "best": those of the model's own retriever."""
    memory = filled(model, tokens, **options)
    if choice != "best":
        memory.retriever = UnscoredRetriever(model.parts.retriever, choice)
    return memory


def births(memory: Memory, indices: list[list[int]]) -> list[list[int]]:
    return [memory.long_term.births(group)[rows].tolist() for group, rows in enumerate(indices)]


class GivenRows(Plain):
    """The plain twin, told which long-term rows every layer reads."""

    def __init__(self, model: MPlusModel, rows: list[list[int]]) -> None:
        super().__init__(model)
        self.rows = rows

    def search(self, number: int, text: Tensor, memory: Memory) -> list[int]:
        """Those of the layer."""
        return self.rows[number]

    def vote(self, ids: Tensor, memory: Memory) -> list[int]:
        """The same in all layers."""
        return self.rows[0]


def newest(memory: Memory) -> list[list[int]]:
    """Rows of the K0 greatest births of every store, oldest first; drops are whole blocks where blocks are read."""
    count = memory.geometry.sizes.ltm_read_tokens
    tables = [memory.long_term.births(group).tolist() for group in range(memory.long_term.groups)]
    return [sorted(range(len(table)), key=lambda row: (table[row], -row))[-count:] for table in tables]


def test_recent_reads_the_newest_oldest_first_as_plain_concatenation_does(model: MPlusModel) -> None:
    memory = unscored(model, "recent", tokens=60, memory_format="hidden")
    assert len(memory.long_term) > model.geometry.sizes.ltm_read_tokens
    before = contents(memory)
    assert drawn(model, memory) == newest(memory)
    got = model(ids(PROMPT, 23)[None], memory=memory).logits[0]
    expected = GivenRows(model, newest(memory)).read(ids(PROMPT, 23), memory).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert same_contents(before, contents(memory))


def test_random_reads_k0_tokens_in_order_as_plain_concatenation_does(model: MPlusModel) -> None:
    memory = unscored(model, "random", tokens=60, memory_format="hidden")
    before, found = contents(memory), drawn(model, memory)
    assert drawn(model, memory) == found
    for table in births(memory, found):
        assert table == sorted(table) and len(table) == model.geometry.sizes.ltm_read_tokens
    assert all(len(set(rows)) == len(rows) for rows in found)
    if model.geometry.read.is_shared:
        block = model.geometry.read.block_tokens
        starts = torch.tensor(found[0]).view(-1, block)
        assert torch.equal(starts - starts[:, :1], torch.arange(block).expand_as(starts)) and not (starts[:, 0] % block).any()
    else:
        assert found[0] != found[1]  # every layer draws its own
    got = model(ids(PROMPT, 23)[None], memory=memory).logits[0]
    torch.testing.assert_close(got, GivenRows(model, found).read(ids(PROMPT, 23), memory).logits, atol=1e-4, rtol=1e-4)
    assert same_contents(before, contents(memory))


def test_random_depends_on_seed_and_place_and_on_nothing_else(model: MPlusModel) -> None:
    memory = unscored(model, "random", tokens=200)
    found = drawn(model, memory)
    torch.manual_seed(99)
    assert drawn(model, memory, seed=24) == found == drawn(model, unscored(model, "random", tokens=200))
    assert drawn(model, memory.fork()) == found
    later = memory.fork()
    later.write(ids(8, 5))
    assert births(later, drawn(model, later)) != births(memory, found)
    other = unscored(model, "random", tokens=200)
    other.seed += 1
    assert drawn(model, other) != found


@pytest.mark.parametrize("model", ["shared", "recent", "per_layer"], indirect=True)  # each way to list what there is to draw from
def test_random_reads_all_parts_of_the_memory_alike(model: MPlusModel) -> None:
    memory = unscored(model, "random", tokens=200)
    hits = torch.zeros(4)
    for seed in range(300):
        memory.seed = seed
        hits += torch.tensor(drawn(model, memory)[0]).mul(4).div(len(memory.long_term)).long().bincount(minlength=4)
    assert hits.sum() == 300 * model.geometry.sizes.ltm_read_tokens
    assert (hits / hits.sum() - 0.25).abs().max() < 0.05


def test_few_long_term_tokens_are_all_read_whatever_the_choice(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "shared")
    texts = []
    for choice in ("best", "recent", "random"):
        memory = unscored(model, choice, tokens=24)
        assert 0 < len(memory.long_term) <= model.geometry.sizes.ltm_read_tokens
        texts.append(model(ids(PROMPT, 23)[None], memory=memory).logits)
    assert torch.equal(texts[0], texts[1]) and torch.equal(texts[0], texts[2])


def test_choices_in_one_batch_equal_one_by_one(model: MPlusModel) -> None:
    memories = [unscored(model, choice) for choice in ("recent", "best", "random")]
    prompts = torch.stack([ids(PROMPT, seed) for seed in (1, 2, 3)])
    together = model(prompts, memory=memories).logits
    alone = [model(row[None], memory=one).logits for row, one in zip(prompts, memories, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("choice", ["recent", "random"])
def test_generation_without_cache_reads_the_same(model: MPlusModel, choice: str) -> None:
    memory = unscored(model, choice)
    options: dict[str, Any] = {"memory": memory, "max_new_tokens": 5, "do_sample": False}
    first, second = (model.generate(ids(PROMPT, 4), use_cache=use_cache, **options) for use_cache in (True, False))
    assert first.tolist() == second.tolist()


def test_an_empty_memory_reads_nothing(model: MPlusModel) -> None:
    for choice in ("recent", "random"):
        memory = unscored(model, choice, tokens=5)
        assert not len(memory.long_term)
        plain = model(ids(PROMPT, 23)[None], memory=filled(model, tokens=5, ltm=False)).logits
        torch.testing.assert_close(model(ids(PROMPT, 23)[None], memory=memory).logits, plain)


@pytest.mark.parametrize("choice", ["recent", "random"])
def test_another_retriever_is_not_stored_and_is_shared_by_a_fork(model: MPlusModel, tmp_path: Path, choice: str) -> None:
    memory = unscored(model, choice)
    assert drawn(model, memory.fork()) == drawn(model, memory)
    memory.save(tmp_path / "m")
    opened = Memory.load(tmp_path / "m", model)
    assert opened.retriever is None
    assert drawn(model, opened) == drawn(model, filled(model))
