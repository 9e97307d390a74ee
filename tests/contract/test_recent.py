"""Where the best find is among the newest tokens they stay in one piece beside the prompt, where the search is not certain all
short-term tokens do; else the best find stands there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.attach.query_pass import prompt_features
from mplus.retrieval.block_scores import of_all
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.late_interaction import LateInteractionRetriever
from tests.contract.plain import Plain
from tests.tiny import filled, ids, tiny_model

TEXT = 60


def behind(model: MPlusModel, memory: Memory, prompt: Tensor) -> int:
    """What a read says, after it was compared with plain concatenation."""
    plain = Plain(model)
    expected = plain.read(prompt, memory).logits
    out = model(prompt[None], memory=memory, return_retrieved=True)
    torch.testing.assert_close(out.logits[0], expected, atol=1e-4, rtol=1e-4)
    assert out.retrieved is not None
    found = out.retrieved[0].layers[0]
    assert found.behind == plain.behind
    return found.behind


def test_newest_tokens_stay_whole_where_the_prompt_is_about_them() -> None:
    model = tiny_model("llama", "recent")
    memory = filled(model, tokens=TEXT, memory_format="hidden")
    text = ids(TEXT, 1)
    about_the_newest = behind(model, memory, text[-6:])
    assert (
        model.geometry.read.recency_tail <= about_the_newest < model.geometry.read.recency_tail + model.geometry.read.block_tokens
    )
    assert behind(model, memory, text[8:14]) == 0


def test_newest_tokens_are_found_like_others_where_nothing_is_said_of_them() -> None:
    model = tiny_model("llama", "recent", recent_tokens=0)
    memory = filled(model, tokens=TEXT, memory_format="hidden")
    assert behind(model, memory, ids(TEXT, 1)[-6:]) == 0


def test_prompts_of_both_kinds_in_one_batch_equal_one_by_one() -> None:
    model = tiny_model("llama", "recent")
    memory = filled(model, tokens=TEXT)
    prompts = torch.stack([ids(TEXT, 1)[-6:], ids(TEXT, 1)[8:14]])
    together = model(prompts, memory=memory).logits
    alone = torch.cat([model(row[None], memory=memory).logits for row in prompts])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


ALWAYS, NEVER = -1e9, 1e9


@pytest.mark.parametrize("tokens", (TEXT, 12))
def test_where_the_search_is_not_certain_short_term_memory_stays_in_its_order(tokens: int) -> None:
    model = tiny_model("llama", "recent", certain_score=NEVER)
    memory = filled(model, tokens=tokens, memory_format="hidden")
    assert (memory.long_term.smallest > 0) is (tokens == TEXT)
    assert behind(model, memory, ids(TEXT, 1)[8:14]) == len(memory.short_term)


def test_a_search_that_is_certain_reads_as_without_the_rule() -> None:
    plain, sure = (tiny_model("llama", "recent", certain_score=certain) for certain in (None, ALWAYS))
    for prompt in (ids(TEXT, 1)[-6:], ids(TEXT, 1)[8:14]):
        outs = [model(prompt[None], memory=filled(model, tokens=TEXT)).logits for model in (plain, sure)]
        torch.testing.assert_close(*outs, atol=0.0, rtol=0.0)


def test_without_long_term_memory_an_uncertain_search_reads_the_text_as_it_went() -> None:
    model = tiny_model("llama", "recent", certain_score=NEVER)
    short = tiny_model("llama", "recent", certain_score=NEVER, ltm=False)
    prompt = ids(TEXT, 1)[-6:]
    outs = [one(prompt[None], memory=filled(one, tokens=12)).logits for one in (model, short)]
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-5)


def test_certain_and_uncertain_prompts_in_one_batch_equal_one_by_one() -> None:
    model = tiny_model("llama", "recent")
    prompts = torch.stack([ids(TEXT, 1)[-6:], ids(TEXT, 1)[8:14]])
    best = []
    for prompt in prompts:
        memory, mask = filled(model, tokens=TEXT), torch.ones(1, len(prompt), dtype=torch.bool)
        features = prompt_features(model.parts, prompt[None], mask)
        assert isinstance(model.parts.retriever, LateInteractionRetriever)
        best.append(
            float(of_all(model.parts.retriever, memory, BlockTable.of(memory, with_short_term=True), features, mask).amax())
        )
    model = tiny_model("llama", "recent", certain_score=sum(best) / 2)
    memory = filled(model, tokens=TEXT)
    out = model(prompts, memory=memory, return_retrieved=True)
    assert out.retrieved is not None
    stays = [one.layers[0].behind == len(memory.short_term) for one in out.retrieved]
    assert sorted(stays) == [False, True]
    alone = torch.cat([model(row[None], memory=memory).logits for row in prompts])
    torch.testing.assert_close(out.logits, alone, atol=1e-4, rtol=1e-4)
