"""How much is computed and written, counted and never timed: what each way to save time promises, at any speed of the machine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.cost_model import Shape
from benchmarks.reference import DIFFERENCES, PublishedProcedure
from benchmarks.synthetic_memory import fill_short, grow_long, random_ids
from benchmarks.work import Work, work_of
from mplus import Memory, MPlusModel
from mplus.index.int8_keys import Int8Keys
from mplus.index.pca_sketch import PcaSketch
from mplus.memory.placement import LongGroup
from mplus.memory.rows import ChunkToEncode
from mplus.settings import Geometry
from tests.flops import read_flops, write_flops

PUBLISHED = {
    "write_tap": "output", "drop": "per_layer", "retrieval": "per_layer", "memory_projection": "read", "block_tokens": 1,
    "neighbour_blocks": 0, "new_tokens": 16, "chunk_tokens": 64, "ltm_read_tokens": 64, "stm_tokens": 512,
}  # fmt: skip
OURS = {"new_tokens": 64, "chunk_tokens": 64, "ltm_read_tokens": 64, "stm_tokens": 512}
LORA = {"r": 4, "lora_alpha": 8}


def model_of(geometry: dict[str, Any], *, vocabulary: int = 256, key_width: int = 8, **changed: Any) -> MPlusModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192, bos_token_id=1, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    parts: dict[str, Any] = {"read_lora": LORA, "write_lora": LORA} if geometry is PUBLISHED else {"read_lora": LORA}
    rules = Geometry(**{**geometry, **changed})
    model = MPlusModel.from_base(LlamaForCausalLM(config).eval(), geometry=rules, key_width=key_width, **parts)
    if geometry is PUBLISHED:
        model.parts.position = torch.zeros(64)
    return model


def full(model: MPlusModel, *, ltm: int = 200, **options: Any) -> Memory:
    memory = model.new_memory(**options)
    fill_short(memory)
    grow_long(memory, ltm)
    return memory


@pytest.fixture(params=["published", "ours"])
def geometry(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    yield PUBLISHED if request.param == "published" else OURS


def prompt(tokens: int = 8, seed: int = 1) -> Tensor:
    return random_ids(tokens, 256, seed)[None]


def read(model: MPlusModel, memory: Memory, parts: Collection[str] = (), *, warm: bool = True) -> Work:
    with PublishedProcedure(model, parts):
        if warm:
            model(prompt(seed=2), memory=memory)
        return work_of(lambda: model(prompt(), memory=memory))


def decoded(model: MPlusModel, memory: Memory, parts: Collection[str] = (), tokens: int = 4) -> int:
    """Bytes written for each token after the first."""
    options: dict[str, Any] = {"do_sample": False}
    with PublishedProcedure(model, parts):
        model.generate(prompt(), memory, max_new_tokens=2, **options)
        few = work_of(lambda: model.generate(prompt(), memory, max_new_tokens=2, **options))
        many = work_of(lambda: model.generate(prompt(), memory, max_new_tokens=2 + tokens, **options))
    return (many.written_bytes - few.written_bytes) // tokens


def written(model: MPlusModel, memory: Memory, parts: Collection[str] = ()) -> Work:
    with PublishedProcedure(model, parts):
        return work_of(lambda: model.encode(random_ids(64, 256, 3), memory))


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_a_second_read_computes_nothing_for_short_term_tokens_but_attention(memory_format: Any) -> None:
    """Twice the short-term memory: as many bytes written (but the mask), and no operation but those of attention."""
    small, large = (model_of(PUBLISHED, stm_tokens=size) for size in (512, 1024))
    works = [read(model, full(model, memory_format=memory_format)) for model in (small, large)]
    attention = 4 * 8 * 512 * 64 * 4  # T, more slots, width, layers; two operations for scores and for the sum
    assert works[1].flops - works[0].flops == attention
    mask = 8 * 512 * 8  # of T x more slots: bool, its parts, and the additive one
    assert works[1].written_bytes - works[0].written_bytes < 4 * mask
    first = read(large, full(large, memory_format=memory_format), warm=False)
    assert first.written_bytes > works[1].written_bytes + 1024 * 2 * 32 * 4 * 4, "the first read does place them"


def test_a_read_computes_a_fraction_of_what_the_published_procedure_does(geometry: dict[str, Any]) -> None:
    model = model_of(geometry)
    ours = read(model, full(model, memory_format="kv"))
    paper = read(model, full(model, memory_format="hidden"), DIFFERENCES)
    assert ours.flops < (0.3 if geometry is PUBLISHED else 0.4) * paper.flops
    assert ours.written_bytes < 0.35 * paper.written_bytes


def test_operations_of_a_read_are_those_of_the_formula() -> None:
    model = model_of(PUBLISHED)
    shape, geometry = Shape.of(model), model.geometry
    expected = read_flops(shape, geometry, query=8, short=512, found=64, held=200, hidden=False)
    expected += shape.head_flops(7) - shape.layers * shape.kv_flops(1, shape.read_rank)  # all logits; BOS is at hand
    assert read(model, full(model, memory_format="kv")).flops == pytest.approx(expected, rel=0.02)


# -- decoding --------------------------------------------------------------------------------------------------------


def test_a_decoded_token_writes_the_same_whatever_stands_before_it(geometry: dict[str, Any]) -> None:
    sizes = (512, 2048)
    ours = [decoded(model, full(model)) for model in (model_of(geometry, stm_tokens=size) for size in sizes)]
    paper = [decoded(model, full(model), DIFFERENCES) for model in (model_of(geometry, stm_tokens=size) for size in sizes)]
    prefix = (2048 - 512) * 2 * 32 * 4 * 4  # K and V of the further slots, float32, all layers
    assert ours[1] - ours[0] < 0.05 * prefix
    assert paper[1] - paper[0] > 0.9 * prefix
    assert ours[1] < 0.3 * paper[1]


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_write_computes_a_fraction_of_what_the_published_procedure_does(geometry: dict[str, Any]) -> None:
    model = model_of(geometry)
    ours = written(model, full(model, memory_format="kv"))
    paper = written(model, full(model, memory_format="hidden"), DIFFERENCES)
    assert ours.flops < (0.85 if geometry is PUBLISHED else 0.75) * paper.flops
    assert ours.written_bytes < 0.75 * paper.written_bytes


def test_a_write_computes_no_logits(geometry: dict[str, Any]) -> None:
    small, large = (model_of(geometry, vocabulary=size) for size in (256, 1024))
    assert written(small, full(small)).flops == written(large, full(large)).flops
    more = [written(model, full(model, memory_format="hidden"), DIFFERENCES).flops for model in (small, large)]
    assert more[1] - more[0] >= 2 * 64 * 64 * (1024 - 256)


def test_the_last_layer_of_a_write_computes_only_what_becomes_memory() -> None:
    """Operations of one layer are left out for T - K of T rows: all but keys and values."""
    model = model_of(PUBLISHED)
    memory, shape = full(model, memory_format="kv"), Shape.of(model)
    all_rows, fewer = written(model, memory, ["short_writes"]), written(model, memory)
    left_out = shape.rest_flops(48, shape.write_rank) + shape.attention_flops(48, 1 + 16 + 64)
    assert all_rows.flops - fewer.flops == pytest.approx(left_out + shape.head_flops(64), rel=0.02)


def test_operations_of_a_write_are_those_of_the_formula() -> None:
    model = model_of(PUBLISHED)
    expected = write_flops(Shape.of(model), model.geometry, text=64, tail=16, hidden=False, short=True)
    assert written(model, full(model, memory_format="kv")).flops == pytest.approx(expected, rel=0.02)


def test_many_memories_are_written_in_as_many_passes_as_one(geometry: dict[str, Any]) -> None:
    model = model_of(geometry)
    memories = [full(model) for _ in range(4)]
    passed: list[int] = []
    hooks = [layer.register_forward_pre_hook(lambda *_: passed.append(1)) for layer in model.parts.decoder.layers]
    try:
        one = work_of(lambda: model.writer.encode_many([(ChunkToEncode([3] * 64, None), memories[0])]))
        four = work_of(lambda: model.writer.encode_many([(ChunkToEncode([3] * 64, None), memory) for memory in memories]))
    finally:
        for hook in hooks:
            hook.remove()
    assert len(passed) == 2 * 4, "each layer once a call"
    assert four.calls < 1.6 * one.calls
    assert four.flops == pytest.approx(4 * one.flops, rel=0.02)


# -- long-term memory ------------------------------------------------------------------------------------------------


def count(act: Callable[[], Any]) -> int:
    return work_of(act).written_bytes


def test_forgetting_moves_no_row(geometry: dict[str, Any]) -> None:
    memory = full(model_of(geometry), ltm=4096)
    state, forgotten, first = memory.state, list[LongGroup](), int(memory.long_term.rows(0)[1024])

    def forget() -> None:
        forgotten.extend(group.without_oldest(1024, memory.slab) for group in state.placement.long)
        state.log.trimmed(first)

    assert count(forget) == 0
    assert [len(group) for group in forgotten] == [4096 - 1024] * memory.long_term.groups


@pytest.mark.parametrize(
    ("rules", "key_width", "sizes", "a_key"),
    [
        pytest.param(PUBLISHED, 8, (16_384, 65_536), 4 * 2 * 8, id="each layer one product with a stand-in of all query tokens"),
        pytest.param(OURS, 128, (65_536, 131_072), 8 * 2 * 32, id="each query token one with 32 of 128 numbers"),
    ],
)
def test_a_search_of_summaries_scores_a_bounded_number_of_keys_exactly(
    rules: dict[str, Any], key_width: int, sizes: tuple[int, int], a_key: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it computes grows with the long-term memory by the summaries' products alone, so exact scores do not grow."""
    for kind in (Int8Keys, PcaSketch):
        monkeypatch.setattr(kind, "exact_below", 1024)
        monkeypatch.setattr(kind, "candidates_per_token", 4)
    model = model_of(rules, key_width=key_width)
    flops: dict[bool, list[int]] = {True: [], False: []}
    for held in sizes:
        memory = model.new_memory(ltm_capacity=200_000)
        fill_short(memory)
        grow_long(memory, held)
        for exact in (True, False):
            model(prompt(seed=2), memory=memory, exact=exact)
            flops[exact].append(work_of(partial(model, prompt(), memory=memory, exact=exact)).flops)
    grown = {exact: after - before for exact, (before, after) in flops.items()}
    assert abs(grown[False] - (sizes[1] - sizes[0]) * a_key) < 0.01 * grown[True]
    assert grown[False] < 0.35 * grown[True]
