"""Laws of states under published names: there and back unchanged, in both formats; every fault named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.checkpoints.published_memory import bookkeeping_of, memory_from_state, state_of, written_from_hidden
from mplus.errors import CheckpointError, InputError
from tests.published import LAYERS, NEW, WIDTH, write_published
from tests.tiny import contents, same_contents


@pytest.fixture(scope="module")
def mplus(tmp_path_factory: pytest.TempPathFactory) -> MPlusModel:
    return MPlusModel.from_pretrained(write_published(tmp_path_factory.mktemp("mplus")), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def memoryllm(tmp_path_factory: pytest.TempPathFactory) -> MPlusModel:
    return MPlusModel.from_pretrained(write_published(tmp_path_factory.mktemp("llm"), ltm=False), dtype="float32", device="cpu")


def written(model: MPlusModel, writes: int, **options: Any) -> Memory:
    memory = model.new_memory(**options)
    for step in range(writes):
        memory.write(torch.arange(3, 23) + step)
    return memory


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 5])
def test_state_makes_a_memory_with_the_same_state(mplus: MPlusModel, writes: int) -> None:
    memory = written(mplus, writes, memory_format="hidden")
    state = state_of(memory)
    step = memory.placement.writes_since_merge * NEW
    again = memory_from_state(mplus, state, update_step=step, memory_format="hidden")
    back = state_of(again)
    assert state.keys() == back.keys()
    assert all(torch.equal(state[name], back[name]) for name in state)
    assert ("cached_memories" in state) == (writes % 2 == 1)


@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_memory_made_of_a_state_reads_and_continues_as_the_one_it_came_from(mplus: MPlusModel, memory_format: Any) -> None:
    memory = written(mplus, 3, memory_format="hidden")
    again = memory_from_state(mplus, state_of(memory), update_step=NEW, memory_format=memory_format)
    prompt, chunk = torch.arange(5, 12)[None], torch.arange(30, 44)
    first, second = (mplus(prompt, memory=one, return_retrieved=True) for one in (memory, again))
    torch.testing.assert_close(first.logits, second.logits, atol=1e-5, rtol=1e-4)
    assert [found.indices for found in first.retrieved or []] == [found.indices for found in second.retrieved or []]
    dropped = torch.tensor([[0, 3, 8, 15]] * LAYERS)
    for one in (memory, again):
        one.update(mplus.encode(chunk, one), dropped=dropped)
    own, other = bookkeeping_of(memory), bookkeeping_of(again)
    assert own.keys() == other.keys()
    for name, value in own.items():
        torch.testing.assert_close(value, other[name], atol=1e-5, rtol=1e-5)


def test_state_of_a_model_without_long_term_memory_is_its_pool(memoryllm: MPlusModel) -> None:
    memory = written(memoryllm, 2, memory_format="hidden")
    state = state_of(memory)
    assert set(state) == {"memory", "memory_ages"}
    again = memory_from_state(memoryllm, {"memory": state["memory"]}, memory_format="hidden")
    assert torch.equal(state_of(again)["memory"], state["memory"])
    assert (state_of(again)["memory_ages"] == 0).all()  # a fresh checkpoint's ages


def test_state_is_a_copy(mplus: MPlusModel) -> None:
    memory = written(mplus, 3, memory_format="hidden")
    before = contents(memory)
    for value in state_of(memory).values():
        value.zero_()
    assert same_contents(before, contents(memory))


def test_making_a_memory_leaves_the_tensors_unchanged(mplus: MPlusModel) -> None:
    state = state_of(written(mplus, 3, memory_format="hidden"))
    before = {name: value.clone() for name, value in state.items()}
    memory = memory_from_state(mplus, state, update_step=NEW, memory_format="hidden")
    for step in range(4):
        memory.write(torch.arange(20) + step)
    assert all(torch.equal(before[name], value) for name, value in state.items())


def test_memory_of_keys_and_values_has_no_published_state(mplus: MPlusModel) -> None:
    with pytest.raises(InputError, match="memory_format='hidden'"):
        state_of(mplus.new_memory(memory_format="kv"))


def test_memory_whose_layers_share_their_rows_has_no_published_state(model: MPlusModel) -> None:
    memory = model.new_memory(memory_format="hidden")
    with pytest.raises(InputError, match="per layer"):
        state_of(memory)
    with pytest.raises(InputError, match="per layer"):
        memory_from_state(model, {})


FAULTS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "missing: memory": lambda state: state.pop("memory"),
    "missing: ltm_keys.1": lambda state: state.pop("ltm_keys.1"),
    "missing: cached_keys": lambda state: state.pop("cached_keys"),
    "not known: colour": lambda state: state.update(colour=torch.ones(1)),
    "not known: ltm.2": lambda state: state.update({"ltm.2": torch.ones(3, WIDTH)}),
    r"memory is \[2, 3, 16\], expected \[2, 16, 16\]": lambda state: state.update(memory=torch.ones(2, 3, 16)),
    r"ltm_ages.0 is \[3\]": lambda state: state.update({"ltm_ages.0": torch.ones(3)}),
    r"ltm.0 is \[\]": lambda state: state.update({"ltm.0": torch.tensor(1.0)}),
    r"cached_memories is \[\]": lambda state: state.update(cached_memories=torch.tensor(1.0)),
    r"cached_ages is \[\]": lambda state: state.update(cached_ages=torch.tensor(1.0)),
    "not finite.*ltm.1": lambda state: state["ltm.1"].fill_(float("nan")),
}


@pytest.mark.parametrize("told", list(FAULTS))
def test_each_fault_of_a_state_is_named(mplus: MPlusModel, told: str) -> None:
    state = state_of(written(mplus, 3, memory_format="hidden"))
    FAULTS[told](state)
    with pytest.raises(CheckpointError, match=told):
        memory_from_state(mplus, state)


def test_ages_that_differ_between_layers_need_a_model_that_drops_per_layer(tmp_path: Path) -> None:
    directory = write_published(tmp_path, ltm=False, drop_memory_per_layer=False)
    model = MPlusModel.from_pretrained(directory, dtype="float32", device="cpu")
    state = state_of(model.new_memory(memory_format="hidden"))
    state["memory_ages"][1, 0] = 9
    with pytest.raises(CheckpointError, match="memory_ages differ"):
        memory_from_state(model, state)


@pytest.mark.parametrize("memory_format", ["hidden", "kv"])
def test_hidden_states_make_the_chunk_they_came_from(mplus: MPlusModel, memory_format: Any) -> None:
    memory = mplus.new_memory(memory_format=memory_format)
    written = mplus.encode(torch.arange(20), memory)
    assert written.hidden is not None
    again = written_from_hidden(mplus, written.hidden, memory)
    assert written.rows.keys() == again.rows.keys()
    for name, rows in written.rows.items():
        torch.testing.assert_close(rows, again.rows[name], atol=1e-6, rtol=1e-6)
    with pytest.raises(InputError, match="hidden states have shape"):
        written_from_hidden(mplus, torch.ones(1, 3, WIDTH), memory)
