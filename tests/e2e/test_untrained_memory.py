"""A base model that was never trained for it has a working memory at once."""

from __future__ import annotations

import pytest
import torch

from mplus import Geometry, Memory, MPlusModel
from mplus.corpus.facts import Fact
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.python_docs import python_text

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def model(base_name: str) -> MPlusModel:
    geometry = Geometry(new_tokens=128, chunk_tokens=128, stm_tokens=160, ltm_read_tokens=128)
    return MPlusModel.from_base(base_name, geometry=geometry)


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    made = HeldOutFacts(3).make(20)
    return [fact for fact in made if len(fact.statement.split(fact.value)[0]) > 20][:6]  # those with the value at the end


@pytest.fixture(scope="module")
def memory(model: MPlusModel, facts: list[Fact]) -> Memory:
    """Facts between pages of documentation, then more documentation than short-term memory holds."""
    memory, text = model.new_memory(), python_text()
    for number, fact in enumerate(facts):
        memory.write(text[900 * number : 900 * number + 800])
        memory.write(f" {fact.statement} ")
    memory.write(text[8000:10000])
    return memory


def completed(model: MPlusModel, fact: Fact, memory: Memory | None) -> bool:
    cue = fact.statement.split(fact.value)[0].rstrip()
    return fact.value in model.generate(cue, memory=memory, max_new_tokens=8, do_sample=False)


def test_untrained_model_completes_facts_from_long_term_memory(model: MPlusModel, memory: Memory, facts: list[Fact]) -> None:
    assert memory.stats().ltm_tokens > 8 * model.geometry.sizes.ltm_read_tokens
    assert sum(completed(model, fact, memory) for fact in facts) >= 4


def test_the_same_model_knows_none_of_them_without_memory(model: MPlusModel, facts: list[Fact]) -> None:
    assert not any(completed(model, fact, None) for fact in facts)


def test_memory_read_whole_equals_full_context_of_the_stock_model(model: MPlusModel) -> None:
    """One chunk, all of it in short-term memory, 1:1: the prompt sees the very keys and values full attention would give it."""
    text = "The gate number of the Cedar Mill is 417. The keeper of the Cedar Mill is Anna Brandt."
    memory = model.new_memory(write_context="memory")  # without an opening
    memory.write(text)
    prompt = torch.tensor([model.tokenize(" The gate number of the Cedar Mill is")])
    with model.untouched() as stock, torch.no_grad():
        ids = torch.cat([torch.tensor([[model.tokenizer.bos_token_id, *model.tokenize(text)]]), prompt], 1)
        full = stock(ids).logits[:, -prompt.shape[1] :].float()
    ours = model(prompt, memory=memory).logits.float()
    assert (ours - full).abs().max() < 0.05 * full.abs().max()
    assert torch.equal(ours.argmax(-1), full.argmax(-1))
