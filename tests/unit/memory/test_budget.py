"""Laws of room: sizes are those that are really allocated, too little of it is one sentence, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import MPlusModel
from mplus.attach.read_pass import Reading
from mplus.errors import CapacityError
from mplus.memory import budget
from mplus.memory import log as row_log
from mplus.memory.budget import MemoryBudget, explain_out_of_memory, free_bytes, is_out_of_memory
from mplus.memory.short_term import ShortTerm
from tests.conftest import TinyModel
from tests.tiny import contents, filled, ids, same_contents

CPU = torch.device("cpu")


def room_of(model: MPlusModel, **changed: Any) -> MemoryBudget:
    geometry = model.geometry.changed(**changed)
    return MemoryBudget.of(model.writer.layout("kv", geometry), geometry)


@pytest.mark.parametrize("setup", ["shared", "per_layer"])
@pytest.mark.parametrize("ltm_dtype", ["model", "int8"])
def test_sizes_are_those_of_a_real_memory(tiny_model: TinyModel, setup: str, ltm_dtype: str) -> None:
    model = tiny_model("llama", setup)
    memory = filled(model, memory_format="kv", ltm_dtype=ltm_dtype)
    found = room_of(model, ltm_dtype=ltm_dtype)
    assert found.ltm_token_bytes * len(memory.long_term) == memory.long_term.size_bytes
    assert found.stm_bytes == memory.geometry.sizes.stm_tokens * found.stm_token_bytes
    assert found.stm_bytes == sum(value.nbytes for value in memory.short_term.at_slots(torch.arange(16)[None]).values())
    assert found.ltm_bytes == memory.geometry.sizes.ltm_capacity * found.ltm_token_bytes


def test_prompt_takes_the_keys_and_values_of_its_prefix(tiny_model: TinyModel) -> None:
    model = tiny_model("llama", "per_layer")  # whose pool is always full
    prompt, decoder = ids(5)[None], model.parts.decoder
    reading = Reading(model.parts, model.geometry, [filled(model)], prompt, torch.ones_like(prompt, dtype=torch.bool), room=5)
    keys = torch.empty(decoder.depth, reading.prefix + 5, decoder.kv_heads, decoder.head_width)
    assert room_of(model).prompt_bytes(5) == 2 * keys.nbytes
    layout = model.writer.layout("hidden", model.geometry)
    assert MemoryBudget.of(layout, model.geometry, 2 * decoder.kv_heads * decoder.head_width).prompt_bytes(5) == 2 * keys.nbytes


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_failed_allocations_are_told_from_other_errors(error: Exception, wanted: bool) -> None:
    assert is_out_of_memory(error) == wanted
    with pytest.raises(CapacityError if wanted else type(error)), explain_out_of_memory(lambda free: "too little", CPU):
        raise error


def test_what_torch_says_on_this_machine_is_known() -> None:
    with pytest.raises(CapacityError, match=r"^\d+ free$"), explain_out_of_memory(lambda free: f"{free} free", CPU):
        torch.empty(1 << 60, dtype=torch.int8)


def test_free_bytes_of_a_gpu_count_what_torch_holds_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert free_bytes(torch.device("cuda:0")) == 1300
    assert free_bytes(torch.device("meta")) is None


def test_sentences_name_need_rest_and_what_would_fit(model: MPlusModel) -> None:
    found = room_of(model)
    each, row = found.prompt_bytes(8), found.ltm_token_bytes
    sentences = {
        found.for_prompts(24, 10 * each, 8): "10 of them fit at once",
        found.for_prompts(24, 0, 8): "ask fewer at once",
        found.for_prompts(1, 0, 8): "lower stm_tokens (N) or ltm_read_tokens (K0)",
        found.for_longterm(300, 40, 20 * row): "lower ltm_capacity (M) to 320, or keep rows on disk",
        found.for_longterm(0, 40, 0): "nothing is lost: keep rows on disk (store=DIRECTORY), or keep them in fewer bytes",
        found.for_memory(5 * found.stm_token_bytes): "lower stm_tokens (N) to 5 or less",
        found.for_memory(None): "lower stm_tokens (N), or let go",
    }
    for sentence, part in sentences.items():
        assert part in sentence
        assert ("are free" in sentence) == (sentence != found.for_memory(None))
        assert "\n" not in sentence
    assert "int8" not in room_of(model, ltm_dtype="int8").for_longterm(0, 40, 0)
    hidden = MemoryBudget.of(model.writer.layout("hidden", model.geometry), model.geometry, kv_numbers=32)
    assert "int8" not in hidden.for_longterm(0, 40, 0), "which a memory of hidden states cannot have"


# -- a memory that finds no room -------------------------------------------------------------------------------------


@contextmanager
def no_more_ram(monkeypatch: pytest.MonkeyPatch, free: int) -> Iterator[None]:
    def refused(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1234 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(row_log, "host_empty", refused)
        patch.setattr(budget, "free_bytes", lambda device: free)
        yield


@pytest.mark.parametrize("setup", ["shared", "per_layer"])
def test_write_without_room_keeps_the_text_and_the_memory_and_goes_on_later(
    tiny_model: TinyModel, setup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_log, "FIRST_SLAB_ROWS", 16)
    monkeypatch.setattr(row_log, "SLAB_ROWS", 16)
    model = tiny_model("llama", setup)
    memory, twin = (filled(model, 24, write_context="memory") for _ in range(2))
    more = [ids(8, seed) for seed in range(5, 11)]
    with no_more_ram(monkeypatch, 0), pytest.raises(CapacityError, match=r"more long-term tokens need .* nothing is lost"):
        for text in more:
            memory.write(text)
    written = (memory.tokens_read - twin.tokens_read) // 8
    assert memory.pending_tokens == 8 and written < len(more)
    encoded = model.encode(more[written], memory)
    before = contents(memory)
    with no_more_ram(monkeypatch, 0):
        with pytest.raises(CapacityError):
            memory.update(encoded)
        assert same_contents(before, contents(memory))
    memory.write(ids(8, 20))
    for text in more[:written]:
        twin.write(text)
    twin.write(torch.cat([more[written], ids(8, 20)]))
    assert memory.tokens_read == twin.tokens_read
    assert same_contents(contents(twin), contents(memory))


def test_a_log_without_room_for_more_rows_stays_as_it_is(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_log, "FIRST_SLAB_ROWS", 4)
    memory = filled(tiny_model("llama", "per_layer"), 20)
    log = memory.state.log
    before = {name: value.clone() for name, value in log.columns_of(log.extents).items()}
    with no_more_ram(monkeypatch, 0), pytest.raises(RuntimeError):
        log.appended({name: value[:1].expand(300, *value.shape[1:]) for name, value in before.items()})
    assert len(log) == 20 and all(torch.equal(value, before[name]) for name, value in log.columns_of(log.extents).items())


# -- a prompt and a write that find no room --------------------------------------------------------------------------


def test_prompts_without_room_get_one_sentence_and_change_nothing(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, prompt = filled(model), ids(5)[None]
    before = contents(memory)
    each = room_of(model).prompt_bytes(9)

    def refused(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr(budget, "free_bytes", lambda device: 2 * each)
        patch.setattr("mplus.attach.read_pass.PrefixBuffers", refused)
        with pytest.raises(CapacityError, match="2 of them fit at once: ask no more than that together"):
            model.generate(prompt.repeat(4, 1), memory, max_new_tokens=4)
    assert same_contents(before, contents(memory))
    assert model.generate(prompt, memory, max_new_tokens=4).shape == (1, 9)


def test_a_write_without_room_for_short_term_memory_keeps_its_text(model: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = model.new_memory(write_context="memory")

    def refused(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1234 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr(ShortTerm, "_grow_to", refused)
        patch.setattr(budget, "free_bytes", lambda device: 0)
        with pytest.raises(CapacityError, match=r"a short-term memory of 16 tokens needs .* lower stm_tokens"):
            memory.write(ids(8))
    assert memory.pending_ids == ids(8).tolist() and not len(memory.short_term)
    memory.write(ids(8, 3))
    assert memory.tokens_read == 16
