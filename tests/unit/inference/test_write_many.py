"""Several memories written in shared passes hold what each would hold alone."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.errors import EmptyTextError, InputError
from mplus.memory.shared_rows import SharedRows
from mplus.settings import WriteContext
from tests.conftest import TinyModel
from tests.tiny import SETUPS, contents, filled, ids, same_contents

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk has a pass of its own: rows that another memory has of the same text are not taken."""
    monkeypatch.setattr(SharedRows, "find", lambda self, key: None)


def close(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """The same memory but for rounding."""
    return first.keys() == second.keys() and all(
        torch.allclose(one, second[name], atol=2e-5, rtol=2e-5)
        if isinstance(one, Tensor) and one.is_floating_point()
        else torch.equal(one, second[name])
        if isinstance(one, Tensor)
        else one == second[name]
        for name, one in first.items()
    )


def memories(model: MPlusModel, **options: Any) -> list[Memory]:
    """Empty ones, half filled ones and full ones, each with a seed of its own."""
    return [filled(model, tokens=tokens, seed=tokens, text_seed=tokens, **options) for tokens in (3, 20, 61, 62, 200)] + [
        model.new_memory(seed=9, **options)
    ]


TEXTS = [ids(count, 80 + count) for count in (40, 7, 31, 1, 90, 25)]


@pytest.mark.parametrize("setup", sorted(SETUPS))
@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_together_equals_one_by_one(tiny_model: TinyModel, setup: str, memory_format: Any, batch: int) -> None:
    model = tiny_model("llama", setup)
    alone, together = memories(model, memory_format=memory_format), memories(model, memory_format=memory_format)
    taken = [memory.write(text, source=str(number)) for number, (memory, text) in enumerate(zip(alone, TEXTS, strict=True))]
    sources = [str(number) for number in range(len(TEXTS))]
    assert model.write_many(together, TEXTS, sources, batch=batch) == taken
    for one, other in zip(alone, together, strict=True):
        assert close(contents(one), contents(other))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
@pytest.mark.parametrize("setup", ["output", "output alone", "shared", "per_layer", "narrow"])
def test_chunks_of_any_lengths_together_equal_each_alone(
    tiny_model: TinyModel, setup: str, memory_format: Any, seed: int
) -> None:
    """Lengths around K, which 4 to 12 tokens of a chunk of 12 reach or do not, in a random order; also a first write."""
    fields: dict[str, dict[str, Any]] = {
        "output": {"new_tokens": 4},
        "output alone": {"new_tokens": 4, "memory_projection": "write"},
        "narrow": {"new_tokens": 4, "chunk_tokens": 12},
    }
    name = setup.split()[0] if setup != "narrow" else "per_layer"
    model = tiny_model("llama", name, min_write_tokens=1, **fields.get(setup, {}))
    dice = random.Random(seed)
    lowest = dice.choice([1, model.geometry.sizes.new_tokens + 1])  # also: every one has more than K
    lengths = [dice.randint(min(lowest, model.geometry.sizes.chunk_tokens), model.geometry.sizes.chunk_tokens) for _ in range(5)]
    texts = [ids(length, 90 + 10 * seed + number) for number, length in enumerate(lengths)]
    held = [filled(model, tokens=dice.choice([0, 24, 60]) or 1, seed=number, memory_format=memory_format) for number in range(5)]
    alone, together = [memory.fork() for memory in held], [memory.fork() for memory in held]
    for memory, text in zip(alone, texts, strict=True):
        memory.write(text)
    model.write_many(together, texts, batch=dice.choice([2, 5]))
    for one, other in zip(alone, together, strict=True):
        assert close(contents(one), contents(other))


@pytest.mark.parametrize("setup", ["shared", "output"])
def test_chunks_of_one_turn_share_passes(tiny_model: TinyModel, setup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", setup)
    held = [filled(model, tokens=24, seed=seed) for seed in range(5)]  # whole chunks: nothing waits
    passes: list[int] = []
    forward = model.parts.decoder.body.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(kwargs["input_ids"].shape[0])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.parts.decoder.body, "forward", counted)
    model.write_many(held, [ids(16, seed) for seed in range(5)], batch=4)
    assert sorted(passes) == sorted([4, 1] * -(-16 // model.geometry.sizes.chunk_tokens))


def test_compressed_chunks_of_different_length_keep_their_own_rows(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "shared", new_tokens=4)
    alone, together = memories(model), memories(model)
    for memory, text in zip(alone, TEXTS, strict=True):
        memory.write(text)
    model.write_many(together, TEXTS)
    assert all(close(contents(one), contents(other)) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("context", ["source", "memory"])
def test_a_failed_pass_loses_no_text(tiny_model: TinyModel, context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where text waits for more text it goes on waiting, else its caller has it and the memories are as before."""
    model = tiny_model("llama", "shared")
    held = [filled(model, tokens=56, seed=seed, write_context=context) for seed in range(3)]
    before = [contents(memory) for memory in held]

    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(model.parts.decoder.layers[-1], "forward", broken)
        model.write_many(held, [ids(8, 70 + number) for number in range(3)])
    for number, memory in enumerate(held):
        assert memory.pending_ids == (ids(8, 70 + number).tolist() if context == "memory" else [])
        memory.become(replace(memory.state, pending=()))
        assert same_contents(before[number], contents(memory))


def test_mistakes_are_found_before_anything_is_written(tiny_model: TinyModel) -> None:
    model, other = tiny_model("llama", "shared"), tiny_model("qwen2", "shared")
    one, two = filled(model), filled(model, seed=4)
    before = [contents(one), contents(two)]
    with pytest.raises(EmptyTextError, match="nothing to write"):
        model.write_many([one, two], [ids(8), []])
    with pytest.raises(InputError, match="source 'a' is named 2 times for one memory"):
        model.write_many([one, one], [ids(8), ids(8)], ["a", "a"])
    published = filled(model, write_context="memory")
    with pytest.raises(InputError, match="named twice"):
        model.write_many([published, published], [ids(8), ids(8)], ["a", "b"])
    with pytest.raises(InputError, match="2 memories, 1 texts and 1 sources"):
        model.write_many([one, two], [ids(8)])
    with pytest.raises(InputError, match="write with the model that made it"):
        model.write_many([one, filled(other)], [ids(8), ids(8)])
    assert same_contents(before[0], contents(one)) and same_contents(before[1], contents(two))


def test_progress_counts_the_tokens_of_all_texts(tiny_model: TinyModel) -> None:
    """After each chunk; where chunks see the whole memory, after each turn of all."""
    model = tiny_model("llama", "shared")
    contexts: tuple[tuple[WriteContext, list[int]], ...] = (("source", [8, 16, 24, 32]), ("memory", [16, 24, 32]))
    for context, wanted in contexts:
        seen: list[int] = []
        held = [model.new_memory(write_context=context) for _ in range(2)]
        model.write_many(held, [ids(24), ids(8)], progress=seen.append)
        assert seen == wanted
