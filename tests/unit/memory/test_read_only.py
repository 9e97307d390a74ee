"""Laws of a read within a scope: it is that of the memory that was only given these writes, nothing outside is seen, nothing changes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.errors import InputError
from mplus.memory.sources import parts_of
from tests.tiny import contents, ids, same_contents, tiny_model

WRITES = [("a", 24, 10.0), ("b", 13, 20.0), ("c", 31, 30.0), ("a", 9, 40.0), ("b", 40, 50.0), ("d", 5, 60.0)]
PROMPT = ids(6, 99)[None]


@pytest.fixture(scope="module", params=["shared", "best_last", "recent"])
def model(request: pytest.FixtureRequest) -> MPlusModel:
    return tiny_model(setup=request.param)


def written(model: MPlusModel, chosen: Any = lambda name, at: True) -> Memory:
    memory = model.new_memory(seed=4)
    for number, (name, tokens, at) in enumerate(WRITES):
        if chosen(name, at):
            memory.write(ids(tokens, number), source=name, at=at)
    return memory


def same_reads(model: MPlusModel, one: Memory, other: Memory) -> bool:
    first, second = (model(PROMPT, memory=memory, return_retrieved=True) for memory in (one, other))
    assert first.retrieved is not None and second.retrieved is not None
    alike = [
        torch.equal(left.positions, right.positions) and torch.equal(left.short, right.short)
        for left, right in zip(first.retrieved[0].layers, second.retrieved[0].layers, strict=True)
    ]
    return all(alike) and torch.equal(first.logits, second.logits)


@pytest.mark.parametrize(
    ("scope", "chosen"),
    [
        ({"sources": "b"}, lambda name, at: name == "b"),
        ({"sources": ["a", "[cd]"]}, lambda name, at: name in "acd"),
        ({"before": 45}, lambda name, at: at < 45),
        ({"sources": "*", "before": datetime.fromtimestamp(50, UTC)}, lambda name, at: at < 50),
        ({"sources": ["c", "d"], "after": 30}, lambda name, at: name in "cd"),
        ({}, lambda name, at: True),
    ],
)
def test_a_read_is_that_of_the_memory_that_was_only_given_these_writes(model: MPlusModel, scope: Any, chosen: Any) -> None:
    memory, alone = written(model), written(model, chosen)
    view = memory.read_only(**scope)
    assert same_contents(contents(view), contents(alone))
    assert same_reads(model, view, alone)


def test_writes_at_or_after_a_time_are_read_and_no_others(model: MPlusModel) -> None:
    view = written(model).read_only(after=40)
    assert [(one.name, one.first_at) for one in view.sources()] == [("a", 40.0), ("b", 50.0), ("d", 60.0)]
    assert view.tokens_read == 9 + 40 + 5 == view.now


def test_a_view_shows_later_writes_within_its_scope_and_copies_no_row(model: MPlusModel) -> None:
    memory = written(model)
    view = memory.read_only("b")
    own = {id(extent.piece) for extent in memory.state.log.extents}
    assert {id(extent.piece) for extent in view.state.log.extents} <= own
    before = view.tokens_read
    memory.write(ids(7, 50), source="c")
    assert view.tokens_read == before
    memory.write(ids(7, 51), source="b")
    assert view.tokens_read == before + 7
    alone = written(model, lambda name, at: name == "b")
    alone.write(ids(7, 51), source="b")
    assert same_reads(model, view, alone)
    assert same_reads(model, view.fork(), alone)
    narrower = view.read_only(before=60)
    assert narrower.tokens_read == before


def test_reading_a_view_leaves_the_memory_as_it_was(model: MPlusModel) -> None:
    memory = written(model)
    before, logits = contents(memory), model(PROMPT, memory=memory).logits
    model(PROMPT, memory=memory.read_only("a"))
    assert same_contents(contents(memory), before)
    assert torch.equal(model(PROMPT, memory=memory).logits, logits)


@pytest.mark.parametrize("setup", ["per_layer", "output"])
def test_where_rows_saw_other_sources_they_stay_in_place_and_nothing_outside_is_read(setup: str) -> None:
    model = tiny_model(setup=setup, write_context="memory")
    memory = written(model)
    view = memory.read_only(["a", "c"])
    parts = [part for chunk in memory.ledger.chunks for part in parts_of(chunk)]
    outside = [range(begin, stop) for name, begin, stop in parts if name in ("b", "d")]
    held = {int(row) for rows in (*view.placement.rows, *(group.rows for group in view.placement.long)) for row in rows}
    assert held and not any(row in span for row in held for span in outside)
    found = model(PROMPT, memory=view, return_retrieved=True).retrieved
    assert found is not None
    read = {int(row) for layer in found[0].layers for row in layer.positions}
    assert read and read <= held


def test_what_age_forgot_stays_forgotten() -> None:
    model = tiny_model(setup="best_last", ltm_capacity=48)
    memory = written(model)
    view = memory.read_only("a")
    assert view.now > 0
    held = {int(row) for rows in (*view.placement.rows, *(group.rows for group in view.placement.long)) for row in rows}
    inside = {row for chunk in memory.ledger.chunks if chunk.source == "a" for row in range(chunk.first, chunk.stop)}
    assert held <= inside
    model(PROMPT, memory=view)


@pytest.mark.parametrize(
    "change",
    [
        lambda view: view.write(ids(5)),
        lambda view: view.forget("a"),
        lambda view: view.replace("a", ids(5)),
        lambda view: view.clear(),
        lambda view: view.note("a", {}),
        lambda view: view.merge(view.base),
        lambda view: view.update(view.base),
        lambda view: list(view.steps(ids(5))),
        lambda view: view.save("nowhere"),
    ],
)
def test_a_view_refuses_every_change(model: MPlusModel, change: Any) -> None:
    memory = written(model)
    view, before = memory.read_only("a"), contents(memory)
    with pytest.raises(InputError, match="a view"):
        change(view)
    assert same_contents(contents(memory), before)


@pytest.mark.parametrize(
    ("scope", "told"),
    [
        ({"sources": "aa"}, "no source 'aa' in this memory"),
        ({"sources": ["a", "x*"]}, "no source 'x*' in this memory"),
        ({"sources": []}, "expected a name or pattern"),
        ({"sources": 3}, "sources is 3, expected a name or pattern"),
        ({"before": "March"}, "before is 'March', expected seconds since 1970 or a datetime"),
        ({"after": float("nan")}, "after is nan, expected seconds"),
        ({"before": 5}, "no source of 4 was written in that span of time"),
        ({"before": 20, "after": 30}, "nothing lies before 20 and after 30"),
    ],
)
def test_a_scope_in_which_nothing_lies_is_one_sentence(model: MPlusModel, scope: Any, told: str) -> None:
    with pytest.raises(InputError) as raised:
        written(model).read_only(**scope)
    assert told in str(raised.value) and "\n" not in str(raised.value)
