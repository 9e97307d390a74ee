"""In whatever mode of torch a memory is written and read, with whatever defaults, it gives the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Memory, MPlusModel
from mplus.attach.prefix_buffers import PrefixCachePool
from mplus.errors import UnsupportedModelError
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.per_layer import PerLayerRetriever
from tests.tiny import SETUPS, contents, filled, ids, same_contents, search_from, tiny_decoder, tiny_geometry, tiny_model

MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plain": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.fixture(params=sorted(SETUPS))
def model(request: pytest.FixtureRequest) -> Iterator[MPlusModel]:
    yield tiny_model(setup=request.param)


def read(model: MPlusModel, memory: Memory) -> Tensor:
    return model(ids(6, 5)[None], memory=memory).logits.clone()


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_every_mode_of_writing_and_reading_gives_the_same(model: MPlusModel, memory_format: Any) -> None:
    """One prefix cache pool and one kept BOS for all of them, so that each finds what another has left."""
    wanted = read(model, filled(model, 61, memory_format=memory_format))
    for how, write_mode in MODES.items():
        with write_mode():
            memory = filled(model, 61, memory_format=memory_format)
        for then, read_mode in MODES.items():
            with read_mode():
                got, answer = (
                    read(model, memory),
                    model.generate(ids(6, 5)[None], memory=memory, max_new_tokens=3, do_sample=False),
                )
            assert torch.equal(got, wanted), f"written {how}, read {then}"
            assert answer.shape == (1, 9)


def test_what_a_read_keeps_is_of_no_callers_mode(model: MPlusModel) -> None:
    memory = filled(model, 61)
    model.parts.bos, model.parts.prefix_pool = model.parts.bos, PrefixCachePool()
    with torch.inference_mode():
        read(model, memory)
    held = model.parts.prefix_pool._held
    assert held is not None
    kept = [held[2].keys, held[2].values]
    kept += [part for _, pairs in model.parts._bos_kv.values() for pair in pairs for part in pair]
    assert len(kept) > 2
    assert not any(part.is_inference() for part in kept)


def test_a_model_opened_in_inference_mode_reads_outside() -> None:
    with torch.inference_mode():
        inside = tiny_model()
        memory = filled(inside, 61)
        wanted = read(inside, memory)
    assert torch.equal(read(inside, memory), wanted)
    plain = tiny_model()
    assert torch.equal(read(plain, filled(plain, 61)), wanted)


# -- torch's defaults --------------------------------------------------------------------------------------------------


@contextmanager
def defaults(kind: str) -> Iterator[None]:
    """Another default type, or a device on which nothing can be computed."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    if kind == "float64":
        torch.set_default_dtype(torch.float64)
    else:
        torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(device)


@pytest.mark.parametrize("kind", ["float64", "meta"])
@pytest.mark.parametrize("search", ["auto", "exact"])
def test_torchs_defaults_change_no_read(model: MPlusModel, kind: str, search: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    search_from(monkeypatch, 64)
    geometry = model.geometry.changed(search=search)
    memory = model.new_memory(seed=1)
    memory.geometry = memory.long_term.geometry = geometry
    memory.write(ids(400, 2))
    prompt = ids(6, 5)[None]
    wanted = model(prompt, memory=memory).logits
    model.parts.bos, model.parts.prefix_pool = model.parts.bos, PrefixCachePool()
    memory.long_term.cache.clear()
    with defaults(kind):
        got = model(prompt, memory=memory).logits
    assert got.dtype == torch.float32
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("kind", ["float64", "meta"])
def test_torchs_defaults_change_no_ids_that_are_given_as_a_list(model: MPlusModel, kind: str) -> None:
    text, prompt = ids(24, 6).tolist(), ids(6, 5).tolist()
    memory, twin = model.new_memory(seed=3), model.new_memory(seed=3)
    memory.write(text)
    wanted = model.generate(prompt, memory=memory, max_new_tokens=3, do_sample=False)
    with defaults(kind):
        twin.write(text)
    assert same_contents(contents(twin), contents(memory))
    if kind == "float64":  # transformers' own generate makes tensors where the default says
        with defaults(kind):
            assert torch.equal(model.generate(prompt, memory=twin, max_new_tokens=3, do_sample=False), wanted)


@pytest.mark.parametrize("kind", ["float64", "meta"])
def test_torchs_defaults_change_no_write_pass(model: MPlusModel, kind: str) -> None:
    memory, chunk = filled(model, 24), ids(7, 6)
    wanted = model.encode(chunk, memory).rows
    with defaults(kind):
        got = model.writer.encode_batch(chunk[None], memory)[0].rows
    assert all(torch.equal(value, wanted[name]) and value.dtype == wanted[name].dtype for name, value in got.items())


@pytest.mark.parametrize("kind", ["float64", "meta"])
def test_torchs_defaults_change_no_index_and_no_new_part(kind: str) -> None:
    keys = torch.randn(512, 8, generator=torch.Generator().manual_seed(1))
    score, query = (lambda rows: rows.sum(1)), keys[:3]

    def made() -> list[Tensor]:
        levels, sketch = Int8Keys(group_rows=128), PcaSketch(4, group_rows=128)
        for part in keys.split(128):
            levels.add(part)
            sketch.add(part)
        again = Int8Keys(group_rows=128)
        again.refresh([keys])
        fitted = [matrix for slab in sketch._held[0] for matrix in slab.fitted.values()]
        return [levels.candidates(score, 20), again.candidates(score, 20), sketch.maxsim(query), *fitted]

    wanted = made()
    with defaults(kind):
        got = made()
        made_new = [PerLayerRetriever(1, 8, 4), LateInteractionRetriever((0,), 8, 4), LateInteractionRetriever((0,), 8)]
    parts = [part for one in made_new for part in (*one.parameters(), *one.buffers())]
    assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert {(part.dtype, part.device.type) for part in parts} == {(torch.float32, "cpu")}


# -- how the owner left the model --------------------------------------------------------------------------------------


def test_a_decoder_in_training_mode_reads_and_writes_alike(model: MPlusModel) -> None:
    """These families have no dropout but that of attention, which is 0 by default."""
    memory, chunk = filled(model, 61), ids(7, 6)
    wanted, rows = read(model, memory), model.encode(chunk, memory).rows
    model.parts.decoder.model.train()
    assert torch.equal(read(model, memory), wanted)
    assert all(torch.equal(value, rows[name]) for name, value in model.encode(chunk, memory).rows.items())
    assert model.parts.decoder.model.training


def test_weights_set_to_another_type_are_read_in_that_type() -> None:
    base: Any = tiny_decoder()
    model = MPlusModel.from_base(base, geometry=tiny_geometry())
    read(model, filled(model, 40))
    base.to(torch.float64)
    assert read(model, filled(model, 40)).dtype == torch.float64


@pytest.mark.parametrize("part", ["the model", "a layer"])
def test_a_compiled_base_is_refused_by_name(part: str) -> None:
    """As ``compile()`` leaves a module, which compiles nothing before the first pass but loads a slow part of torch."""
    base: Any = tiny_decoder()
    compiled = base if part == "the model" else base.model.layers[1]
    compiled._compiled_call_impl = compiled._call_impl
    with pytest.raises(UnsupportedModelError, match="compiled") as caught:
        MPlusModel.from_base(base, geometry=tiny_geometry())
    assert "\n" not in str(caught.value)
    assert ("layers.1" in str(caught.value)) == (part == "a layer")
