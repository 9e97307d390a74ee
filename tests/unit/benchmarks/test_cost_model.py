"""Laws of counted work: what the dispatch mode counts is what torch's own counter does, and what the formulas say. Knows no clock.

Torch's counter lacks the fused attention of CPUs, so the two are compared where attention runs as plain products.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from benchmarks import systems
from benchmarks.cost_model import Shape
from benchmarks.models import open_size, plain_twin
from benchmarks.reference import DIFFERENCES, PublishedProcedure
from benchmarks.synthetic_memory import grow_long, random_ids
from benchmarks.work import work_of
from mplus import Memory, MPlusModel
from mplus.attach.cache import passed
from mplus.memory.row_codec import RowCodec
from mplus.memory.rows import RowLayout
from mplus.memory.stores.fields import bytes_per_row
from mplus.settings import Geometry
from tests.flops import decode_flops, read_flops, write_flops

HELD, QUERY = 100, 5
PROCEDURES = {"ours": ["fused_adapters"], "paper": list(DIFFERENCES)}  # torch's counter does not know addmm_ either


@pytest.fixture(scope="module")
def tiny() -> MPlusModel:
    return open_size("tiny")


def query(seed: int = 1) -> Tensor:
    return random_ids(QUERY, 128, seed)[None]


@pytest.fixture(params=PROCEDURES)
def procedure(tiny: MPlusModel, request: pytest.FixtureRequest) -> Iterator[Collection[str]]:
    """Parts of the published procedure, which are on for the test."""
    with PublishedProcedure(tiny, PROCEDURES[request.param]):
        yield PROCEDURES[request.param]


def filled(model: MPlusModel, memory_format: Any) -> Memory:
    memory = systems.ours(model, 1000, row_type="model", memory_format=memory_format).memory
    grow_long(memory, HELD)
    model(query(2), memory=memory)  # what is kept between reads is at hand
    return memory


def torch_flops(act: Callable[[], Any]) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        act()
    return int(counter.get_total_flops())


# -- counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_counted_operations_are_those_of_torchs_own_counter(
    tiny: MPlusModel, procedure: Collection[str], memory_format: str
) -> None:
    memory = filled(tiny, memory_format)
    acts: list[Callable[[], Any]] = [
        lambda: tiny(query(), memory=memory),
        lambda: tiny.encode(random_ids(16, 128), memory),
        lambda: tiny.generate(query(), memory, max_new_tokens=3, do_sample=False),
    ]
    for act in acts:
        assert work_of(act).flops == torch_flops(act) > 0


def test_products_that_torchs_counter_lacks_are_counted_as_matrix_products() -> None:
    left, right = torch.ones(6, 4), torch.ones(4, 3)
    assert work_of(lambda: torch.zeros(6, 3).addmm_(left, right)).flops == work_of(lambda: left @ right).flops == 2 * 6 * 4 * 3
    vector = right[:, 0]
    assert work_of(lambda: left @ vector).flops == work_of(lambda: torch.zeros(6).addmv_(left, vector)).flops == 2 * 6 * 4
    assert work_of(lambda: vector @ vector).flops == 2 * 4
    levels = torch.ones(32, 8, dtype=torch.int8)
    assert work_of(lambda: torch._int_mm(levels, levels[:1].T)).flops == 2 * 32 * 8


def test_written_bytes_are_those_of_new_tensors_and_of_the_changed_part_of_old_ones() -> None:
    old, rows = torch.zeros(100, 4), torch.ones(3, 4)
    assert work_of(lambda: old + 1).written_bytes == 100 * 16
    assert work_of(lambda: old[:3].copy_(rows)).written_bytes == 3 * 16
    assert work_of(lambda: old.index_copy_(0, torch.arange(3), rows)).written_bytes >= 3 * 16
    assert work_of(lambda: old.index_copy_(0, torch.arange(3), rows)).written_bytes < 5 * 16, "with the three places"
    assert work_of(lambda: old.view(4, 100)[1:].T).written_bytes == 0
    assert work_of(lambda: torch.empty(50)).written_bytes == 0


# -- operations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_operations_of_a_read_and_a_write_are_exactly_those_of_the_formulas(
    tiny: MPlusModel, procedure: Collection[str], memory_format: str
) -> None:
    memory, shape, geometry = filled(tiny, memory_format), Shape.of(tiny), tiny.geometry
    hidden, short = memory_format == "hidden", "short_writes" not in procedure
    read = read_flops(
        shape,
        geometry,
        query=QUERY,
        short=geometry.sizes.stm_tokens,
        found=geometry.sizes.ltm_read_tokens,
        held=HELD,
        hidden=hidden and not short,
    )
    if hidden and short:  # short-term rows are kept projected, found ones are not
        read += shape.layers * shape.kv_flops(geometry.sizes.ltm_read_tokens, shape.read_rank)
    read += shape.head_flops(QUERY - 1)  # this forward pass makes all logits
    read -= shape.layers * shape.kv_flops(1, shape.read_rank)  # the beginning's keys and values are weights by now
    assert work_of(lambda: tiny(query(), memory=memory)).flops == read
    write = write_flops(shape, geometry, text=16, tail=geometry.sizes.new_tokens, hidden=hidden, short=short)
    assert work_of(lambda: tiny.encode(random_ids(16, 128), memory)).flops == write


def test_operations_of_a_decoded_token_are_exactly_those_of_the_formula(tiny: MPlusModel, procedure: Collection[str]) -> None:
    memory = filled(tiny, "kv")
    answer = partial(tiny.generate, query(), memory, do_sample=False)
    two, three = (work_of(partial(answer, max_new_tokens=count)).flops for count in (2, 3))
    before = 1 + tiny.geometry.sizes.stm_tokens + tiny.geometry.sizes.ltm_read_tokens + QUERY
    assert three - two == decode_flops(Shape.of(tiny), before + 2)


def test_operations_of_full_context_are_exactly_those_of_the_formula(tiny: MPlusModel) -> None:
    plain: Any = plain_twin(tiny)
    ids = random_ids(40 + QUERY, 128)[None]
    assert torch_flops(lambda: plain(ids, logits_to_keep=1)) == Shape.of(tiny).context_flops(40, QUERY)


# -- bytes -----------------------------------------------------------------------------------------------------------


def test_bytes_of_weights_and_of_a_prefix_are_those_of_the_tensors(tiny: MPlusModel) -> None:
    plain: Any = plain_twin(tiny)
    shape, cache = Shape.of(tiny), DynamicCache(config=plain.config)
    with torch.no_grad():
        plain(random_ids(40, 128)[None], **passed(cache))
    kept: list[Any] = list(cache.layers)
    assert shape.prefix_bytes(40) == sum(layer.keys.nbytes + layer.values.nbytes for layer in kept)
    products = [value for name, value in plain.named_parameters() if name.endswith(("proj.weight", "lm_head.weight"))]
    assert shape.weight_bytes == sum(value.nbytes for value in products)


def test_the_least_bytes_are_each_thing_moved_once(tiny: MPlusModel) -> None:
    shape, one = Shape.of(tiny), Shape.of(tiny).prefix_bytes(1)
    assert shape.least_decode_bytes(50) == shape.weight_bytes + 50 * one
    keys = shape.layers * HELD * shape.key_width
    assert (
        shape.least_read_bytes(short=7, retrieved=3, held=HELD, search_itemsize=1)
        == shape.weight_bytes + keys + (7 + 3 * 3) * one
    )
    assert (
        shape.least_write_bytes(tiny.geometry.sizes.new_tokens) == shape.weight_bytes + 4 * tiny.geometry.sizes.new_tokens * one
    )


PER_LAYER = {"drop": "per_layer", "retrieval": "per_layer", "block_tokens": 1, "neighbour_blocks": 0}
SHARED = {"drop": "shared", "retrieval": "shared", "block_tokens": 16}


@pytest.mark.parametrize(
    ("layers", "width", "kv_heads", "searched", "rules", "literal_bytes"),
    [
        pytest.param(8, 512, 4, 32, PER_LAYER, 8 * (4 * 512 + 4 * 32 + 12), id="mid"),
        pytest.param(30, 576, 3, 384, SHARED, 30 * 4 * 576 + 4 * 384 + 12, id="smollm2-135m"),
    ],
)
def test_bytes_per_token_follow_from_the_shape_and_meet_the_targets(
    layers: int, width: int, kv_heads: int, searched: int, rules: dict[str, Any], literal_bytes: int
) -> None:
    """Float32 hidden states and keys, an age, a frequency; against K and V of 64 a head, and a scale (2 bytes) for what is int8."""
    groups = layers if rules is PER_LAYER else 1  # search keys, numbers and births of each layer's own or of all layers at once

    def stored(memory_format: Any, content: dict[str, tuple[int, ...]], **fields: Any) -> int:
        layout = RowLayout(
            format=memory_format, layers=layers, fields={**content, "search": (searched,)}, search_groups=groups,
            dtype=torch.float32, device=torch.device("cpu"),
        )  # fmt: skip
        return bytes_per_row(RowCodec(layout, Geometry(**{**rules, **fields})).fields)

    literal = stored("hidden", {"hidden": (width,)}, eviction="countdown", **systems.LITERAL_FIELDS) + groups * (8 + 4)
    content: dict[str, tuple[int, ...]] = {"keys": (kv_heads, 64), "values": (kv_heads, 64)}
    ours, int8 = (
        stored("kv", content, **systems.storage_fields(kind)) + groups * (8 + 8) for kind in (systems.OURS_ROW_TYPE, "int8")
    )
    numbers, search = layers * 2 * kv_heads * 64, groups * (searched + 2 + 8 + 8)
    assert literal == literal_bytes
    assert (ours, int8) == (2 * numbers + search, numbers + layers * 2 * 2 + search)
    assert ours <= 0.5 * literal and int8 <= 0.27 * literal
