"""Laws of sources: where their memory tokens are, counted one by one; what forget and replace say and leave."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from mplus import MPlusModel
from mplus.errors import InputError
from mplus.memory.ledger import Chunk, digest_of
from mplus.memory.reports import BY_HAND, INEXACT_CONTEXT
from mplus.memory.sources import parts_of
from tests.conftest import TinyModel
from tests.tiny import contents, filled, ids, same_contents


@pytest.mark.parametrize("setup", ["shared", "per_layer", "mixed"])
@pytest.mark.parametrize("capacity", [24, 400])
def test_counts_are_those_of_each_token_alone(tiny_model: TinyModel, setup: str, capacity: int) -> None:
    memory, chooser = tiny_model("llama", setup).new_memory(ltm_capacity=capacity), random.Random(setup)
    written: dict[str, list[int]] = {}
    for step in range(30):
        name, text = chooser.choice(["a", "b", ""]), ids(chooser.randrange(1, 14), step).tolist()
        memory.write(text, source=name, at=float(step))
        written.setdefault(name, []).extend(text)
    short: Counter[str] = Counter()
    long: Counter[str] = Counter()
    for table, counts in ((memory.placement.births, short), ([group.births for group in memory.placement.long], long)):
        for births in table:
            for birth in births.tolist():
                chunk = memory.ledger.chunk_of(birth)
                assert chunk is not None
                counts[chunk.source or ""] += 1
    for one in memory.sources():
        assert one.tokens == len(written[one.name]) and one.digest == digest_of([written[one.name]])
        assert one.short_term == round(short[one.name] / memory.placement.groups)
        assert one.long_term == round(long[one.name] / memory.long_term.groups)
        assert abs(one.short_term + one.long_term + one.evicted - one.tokens) <= 1, "means of layers are rounded"
        own = [chunk for chunk in memory.ledger.chunks if (chunk.source or "") == one.name]
        assert (one.chunks, one.first_at, one.last_at) == (len(own), own[0].at, own[-1].at)
    assert [one.name for one in memory.sources()] == list(written)


def test_rows_of_a_chunk_stand_evenly_for_the_text_of_its_sources() -> None:
    assert parts_of(Chunk(10, 4, (("a", 4), (None, 4)))) == [("a", 10, 12), (None, 12, 14)]
    assert parts_of(Chunk(10, 3, (("a", 1), ("b", 1), ("c", 7)))) == [("a", 10, 10), ("b", 10, 10), ("c", 10, 13)]
    assert parts_of(Chunk(0, 5, ())) == []


def test_text_that_only_waits_is_a_source_too_and_can_be_forgotten(model: MPlusModel) -> None:
    memory = filled(model, tokens=24, write_context="memory")
    memory.write(ids(1, 7), source="note")
    assert [(one.name, one.tokens, one.chunks) for one in memory.sources()] == [("", 24, 3), ("note", 1, 0)]
    assert memory.ids("note") == ids(1, 7).tolist()
    report = memory.forget("note")
    assert report.pending == report.tokens == 1 and not memory.pending


# -- what cannot be exact --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", ["shared", "per_layer", "output"])
def test_forgetting_what_others_have_seen_takes_its_rows_and_says_that_it_is_not_exact(tiny_model: TinyModel, setup: str) -> None:
    model = tiny_model("llama", setup)
    memory = model.new_memory(write_context="memory")
    for step in range(8):
        memory.write(ids(model.geometry.sizes.chunk_tokens, step), source="ab"[step % 2])
    report = memory.forget("a")
    assert not report.exact and report.reason == INEXACT_CONTEXT
    assert [one.name for one in memory.sources()] == ["b"]
    for births in (*memory.placement.births, *(group.births for group in memory.placement.long)):
        owners = [memory.ledger.chunk_of(birth) for birth in births.tolist()]
        assert all(owner is None or owner.source != "a" for owner in owners)
    memory.write(ids(24, 20), source="a")
    assert model.generate(ids(4)[None], memory=memory, max_new_tokens=2, do_sample=False).shape == (1, 6)


def test_what_a_later_write_would_see_of_forgotten_text_goes_too(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "output")
    memory = model.new_memory(memory_format="kv")
    for number, name in enumerate("aabab"):
        memory.write(ids(model.geometry.sizes.chunk_tokens, number), source=name)
    assert memory.tail is not None
    memory.forget("a")
    assert memory.tail is None, "nobody knows whose hidden states they are"
    for tokens in (2, 24):
        memory.write(ids(tokens, 9), source="c")
    memory.forget("b")
    assert [one.name for one in memory.sources()] == ["c"]


@pytest.mark.parametrize("context", ["memory", "source"])
def test_a_memory_that_forgets_all_it_read_is_empty_and_goes_on(model: MPlusModel, context: str) -> None:
    memory = filled(model, write_context=context)
    memory.forget("")
    assert (len(memory.short_term), len(memory.long_term), memory.tokens_read, memory.sources()) == (0, 0, 0, [])
    memory.write(ids(24, 2), source="a")
    assert [one.tokens for one in memory.sources()] == [24]
    if context == "source":
        twin = model.new_memory(seed=3)
        twin.write(ids(24, 2), source="a", share=False)
        assert same_contents(contents(memory), contents(twin))


def test_a_forgotten_source_that_is_written_again_does_not_see_what_it_was(model: MPlusModel) -> None:
    """Also where tokens left by the caller's choice, so that the rest stays where it is."""
    memory, alone = model.new_memory(), model.new_memory()
    memory.write(ids(8, 1), source="a")
    memory.write(ids(8, 2), source="b")
    memory.update(model.encode(ids(4, 3), memory), dropped=torch.tensor([[8, 9, 10, 11]]), source="c")
    report = memory.forget("a")
    assert not report.exact and report.reason == BY_HAND
    for one in (memory, alone):
        one.write(ids(8, 4), source="a", share=False)
    assert torch.equal(memory.short_term.newest(8)["keys"], alone.short_term.newest(8)["keys"])


# -- replacing -------------------------------------------------------------------------------------------------------


def test_replacing_shares_with_nobody_and_leaves_all_as_it_was_where_it_fails(model: MPlusModel) -> None:
    memory = model.new_memory()
    for name in "ab":
        memory.write(ids(20, ord(name)), source=name, share=False)
    before = contents(memory)
    for source, text in (("a", [101]), ("zzz", [5, 6]), ("a", [])):
        with pytest.raises(InputError):
            memory.replace(source, text)
        assert same_contents(before, contents(memory))
    assert memory.replace("a", ids(9, 5)).shared_with == []
    assert memory.ids("a") == ids(9, 5).tolist() and [one.name for one in memory.sources()] == ["b", "a"]


def test_a_fork_that_still_holds_the_rows_is_told(model: MPlusModel) -> None:
    memory = model.new_memory()
    memory.write(ids(20, 61), source="a", share=False)
    twin = memory.fork()
    assert len(memory.forget("a").shared_with) == 1
    assert twin.forget("a").shared_with == []
