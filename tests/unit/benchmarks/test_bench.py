"""Laws of the benchmark's arithmetic: pairs, ratios, targets, bounds, plans, files. Nothing here is timed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import synthetic_memory, systems
from benchmarks.fixture import Fixture
from benchmarks.memory import token_bytes
from benchmarks.models import OFFERED, check_size, open_size, plain_twin, size_named
from benchmarks.plan import PARTS, parse_sizes, plan_of
from benchmarks.ratios import TARGETS, spreads, targets
from benchmarks.reference import DIFFERENCES, PublishedProcedure
from benchmarks.result import check_file, store
from benchmarks.synthetic_memory import bytes_of, grow_long, random_ids, shortage
from benchmarks.thresholds import RegressionThresholds
from benchmarks.timing import Spread, interleaved, ratio, spread
from benchmarks.work import work_of
from mplus.errors import InputError
from mplus.memory import budget
from mplus.memory.row_codec import RowCodec
from mplus.memory.rows import RowLayout
from mplus.memory.stores.fields import bytes_per_row
from mplus.model import MPlusModel
from mplus.settings import Geometry

pytestmark = pytest.mark.slow

THRESHOLDS = Path(__file__).parents[3] / "benchmarks" / "thresholds.json"


@pytest.fixture(scope="module")
def tiny() -> MPlusModel:
    return open_size("tiny")


# -- pairs and ratios ------------------------------------------------------------------------------------------------


def test_sides_take_turns_in_alternating_order_after_warming_up() -> None:
    seen: list[str] = []
    counts = {"a": iter(range(100)), "b": iter(range(100))}

    def side(name: str) -> float:
        seen.append(name)
        return float(next(counts[name]))

    got = interleaved({"a": lambda: side("a"), "b": lambda: side("b")}, 3)
    assert seen == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert got == {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}


def test_ratio_is_the_median_over_rounds_of_neighbours() -> None:
    assert ratio([2, 8, 6], [1, 2, 1]) == Spread(4.0, 3.0, 5.0)
    assert ratio([100, 2], [10, 1]) != spread([102 / 11])
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0)


RAW: dict[str, Any] = {
    "first_token": {
        "points": [
            {"ltm_tokens": 10_000, "seconds": {"ours": [1.0, 1.0, 1.0], "literal": [2.0, 2.0, 2.0]}},
            {"ltm_tokens": 150_000, "seconds": {"ours": [1.0, 2.0, 1.0], "literal": [9.0, 18.0, 9.0]}},
            {"ltm_tokens": 1_000_000, "seconds": {"ours": [3.0, 3.0, 3.0]}},
        ],
        "growth": {"small": 10_000, "large": 1_000_000, "seconds": {"small": [2.0, 2.0], "large": [3.0, 5.0]}},
    },
    "decode": {"seconds": {"ours": [2.0], "literal": [3.0], "static": [1.0], "growing": [4.0]}},
    "ingest": {"seconds": {"ours": [2.0], "literal": [3.0], "ours_bf16": [1.0]}},
    "bytes": {"per_token_and_layer": {"literal": {"total": 2000.0}, "bfloat16": {"total": 900.0}, "int8": {"total": 500.0}}},
}


def test_ratios_come_from_the_raw_numbers_alone() -> None:
    found = {name: one.median for name, one in spreads(RAW).items()}
    assert found == {
        "first_token": 9.0,
        "first_token_1m_over_10k": 2.0,
        "decode": 1.5,
        "decode_over_static": 0.5,
        "decode_over_growing": 2.0,
        "ingest": 1.5,
        "ingest_bf16": 3.0,
        "memory_bytes": 0.45,
        "memory_bytes_int8": 0.25,
    }
    changed = copy.deepcopy(RAW)
    changed["decode"]["seconds"]["ours"] = [6.0]
    assert spreads(changed)["decode"].median == 0.5


def test_parts_that_were_not_run_leave_their_ratios_out() -> None:
    assert spreads({}) == {}
    assert set(spreads({"decode": RAW["decode"]})) == {"decode", "decode_over_static", "decode_over_growing"}
    only_ours = {"first_token": {"points": [{"ltm_tokens": 0, "seconds": {"ours": [1.0]}}]}}
    assert spreads(only_ours) == {}


def test_targets_are_judged_in_their_direction() -> None:
    judged = targets(spreads(RAW))
    assert {name: one["reached"] for name, one in judged.items()} == {
        "first_token": True,
        "decode": False,
        "ingest": True,
        "ingest_bf16": True,
        "memory_bytes": True,
        "memory_bytes_int8": True,
        "first_token_1m_over_10k": False,
        "decode_over_static": False,
    }
    assert set(judged) <= set(TARGETS)


# -- bytes -----------------------------------------------------------------------------------------------------------


def test_bytes_of_a_row_at_the_measured_shape_meet_the_targets() -> None:
    """``mid``: K and V of 4 heads of 64, search keys of 32, against 512 + 32 float32 numbers, an age and a frequency."""
    layout = RowLayout(
        format="kv",
        layers=8,
        fields={"keys": (4, 64), "values": (4, 64), "search": (32,)},
        search_groups=8,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    published = 4 * 512 + 4 * 32 + 8 + 4
    sizes = {}
    for kind in systems.row_types():
        geometry = Geometry(
            drop="per_layer", retrieval="per_layer", block_tokens=1, neighbour_blocks=0, **systems.storage_fields(kind)
        )
        sizes[kind] = bytes_per_row(RowCodec(layout, geometry).fields) / layout.layers + 8 + 8  # number and birth
    assert sizes == {"model": 2192, "bfloat16": 1074, "float16": 1168, "int8": 566}
    assert sizes[systems.OURS_ROW_TYPE] <= 0.5 * published and sizes["int8"] <= 0.27 * published


# -- filling ---------------------------------------------------------------------------------------------------------


def test_filled_memories_are_full_and_read_by_both_systems_alike(tiny: MPlusModel) -> None:
    ours, literal = systems.ours(tiny, 1000, row_type="model"), systems.literal(tiny, 1000)
    for system in (ours, literal):
        grow_long(system.memory, 100)
        assert len(system.memory.short_term) == tiny.geometry.sizes.stm_tokens
        assert [system.memory.long_term.tokens(group) for group in range(2)] == [100, 100]
        births = system.memory.long_term.births(0)
        assert bool((births.diff() > 0).all()) and int(births[-1]) < 0
    assert bytes_of(ours.memory, 10) * 10 == ours.memory.long_term.size_bytes
    prompt = random_ids(5, tiny.vocabulary)[None]
    assert tiny(prompt, memory=ours.memory, return_retrieved=True).retrieved is not None


@pytest.mark.parametrize("memory_format", ["kv", "hidden"])
def test_a_filled_memory_costs_what_a_written_one_costs(tiny: MPlusModel, memory_format: Any) -> None:
    """The same tensors and operations in a read, a decoded token and a write. Bytes may differ by a copy of what was found: rows
    that came in many small writes may lie in two slabs."""
    written, filled_one = (tiny.new_memory(memory_format=memory_format, ltm_capacity=1000) for _ in range(2))
    while len(written.long_term) < 64:
        written.write(random_ids(160, tiny.vocabulary, written.now))
    synthetic_memory.fill_short(filled_one)
    grow_long(filled_one, len(written.long_term))
    forms, costs = [], []
    for memory in (written, filled_one):
        assert memory.tail is not None
        pool = {name: (value.shape, value.dtype) for name, value in memory.short_term.newest(len(memory.short_term)).items()}
        forms.append((pool, memory.tail.shape, memory.codec.fields, [memory.long_term.tokens(group) for group in range(2)]))
        prompt = random_ids(5, tiny.vocabulary, 8)[None]
        tiny(prompt, memory=memory)
        acts: list[Callable[[], Any]] = [
            partial(tiny, prompt, memory=memory),
            partial(tiny.generate, prompt, memory, max_new_tokens=3, do_sample=False),
            partial(tiny.encode, random_ids(16, tiny.vocabulary), memory),
        ]
        costs.append([(work.flops, work.written_bytes) for work in map(work_of, acts)])
    assert forms[0] == forms[1]
    found_bytes = tiny.geometry.sizes.ltm_read_tokens * tiny.writer.layout(memory_format, tiny.geometry).bytes_per_token
    for (flops, bytes_written), (flops_filled, bytes_filled) in zip(*costs, strict=True):
        assert flops == flops_filled and abs(bytes_written - bytes_filled) <= found_bytes


def test_the_literal_row_is_the_published_one_whatever_the_model_keeps() -> None:
    """Models come with row types of their own; what ours are compared with does not change with them."""
    fixture = Fixture(plan_of("memory", "tiny", rounds=1), lambda _: None)
    before = token_bytes(fixture)["per_token_and_layer"]
    fixture.model.checkpoint.geometry = fixture.model.geometry.changed(ltm_dtype="bfloat16", ltm_search_dtype="int8")
    assert token_bytes(fixture)["per_token_and_layer"] == before
    assert before["literal"]["total"] == 4 * 32 + 4 * 6 + 8 + 4


def test_both_systems_write_the_same_memory(tiny: MPlusModel) -> None:
    """Ours and the published procedure differ in how they compute and keep, not in what."""
    text, prompt = random_ids(300, tiny.vocabulary, 4), random_ids(6, tiny.vocabulary, 5)[None]
    logits = []
    forms: list[tuple[Collection[str], Any]] = [((), "kv"), (DIFFERENCES, "hidden")]
    for parts, form in forms:
        memory = tiny.new_memory(memory_format=form, ltm_capacity=1000)
        with PublishedProcedure(tiny, parts):
            memory.write(text)
            logits.append(tiny(prompt, memory=memory).logits)
    torch.testing.assert_close(logits[0], logits[1], atol=2e-5, rtol=2e-5)


def test_too_little_ram_is_told_before_it_is_tried(tiny: MPlusModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1000)
    assert "GB of free RAM" in str(shortage(2000))
    told: list[str] = []
    fixture = Fixture(plan_of("growth", "tiny", ltm="0,100", rounds=1), told.append)
    assert not fixture.grow(fixture.ours(), 100, "ours")
    assert fixture.notes == told[-1:] and "ours at 100 long-term tokens is left out" in told[-1]
    monkeypatch.setattr(budget, "free_bytes", lambda device: None)
    assert shortage(10**15) is None


def test_the_plain_twin_is_the_bare_base_on_the_same_weights(tiny: MPlusModel) -> None:
    twin: Any = plain_twin(tiny)
    prompt = random_ids(9, tiny.vocabulary)[None]
    with torch.no_grad():
        assert torch.allclose(twin(prompt).logits, tiny(prompt).logits, atol=1e-6)
    own = twin.model.layers[0].mlp.up_proj.weight.data_ptr()
    assert own == tiny.parts.decoder.layers[0].mlp.up_proj.base_layer.weight.data_ptr()


# -- plans -----------------------------------------------------------------------------------------------------------


def test_all_is_every_part_of_the_three_kinds_once() -> None:
    parts = plan_of("all", "mid").parts
    assert set(parts) == {part for kind in ("speed", "memory", "growth") for part in PARTS[kind]}
    assert len(parts) == len(set(parts))


def test_sizes_are_read_as_people_write_them() -> None:
    assert parse_sizes("--ltm", "1M, 0,10k") == (0, 10_000, 1_000_000)
    with pytest.raises(InputError, match="--ltm has 'ten', expected sizes like 0,10k,1M"):
        parse_sizes("--ltm", "1k,ten")


@pytest.mark.parametrize(
    ("kind", "model", "options", "sentence"),
    [
        ("sped", "mid", {}, "there is no benchmark 'sped'; did you mean 'speed'"),
        ("speed", "mit", {}, "there is no benchmark model 'mit'; did you mean 'mid'"),
        ("speed", "mid", {"rounds": 0}, "--rounds is 0, expected 1 or more"),
    ],
)
def test_mistakes_name_the_nearest(kind: str, model: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        plan_of(kind, model, **options)


def test_sizes_for_a_gpu_are_refused_on_a_cpu_unless_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="give --layers 1 to run it end to end on the CPU"):
        check_size("8b", None)
    check_size("8b", 1)
    with pytest.raises(InputError, match="--layers is 0"):
        check_size("mid", 0)
    assert "tiny" not in OFFERED and size_named("8b").for_gpu


# -- files and bounds ------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "notes.json"
    file.write_text('{"mine": 1}', encoding="utf-8")
    yield file
    assert file.read_text(encoding="utf-8") == '{"mine": 1}'


def test_a_file_that_is_not_ours_is_kept(foreign: Path) -> None:
    with pytest.raises(InputError, match="is no result of mplus bench"):
        check_file(foreign)
    for wrong, word in ((foreign.parent, "is a directory"), (foreign.with_suffix(".png"), "the result is JSON")):
        with pytest.raises(InputError, match=word):
            check_file(wrong)
    with pytest.raises(InputError, match="may not be written"):
        check_file(foreign / "below" / "bench.json")


def test_a_folder_that_may_not_be_written_is_told_before_measuring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match=f"{tmp_path} may not be written; give another file with --out"):
        check_file(tmp_path / "new" / "bench.json")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    text = json.dumps({"schema": 1, "what": "mplus bench"})

    def drawn(path: Path) -> None:
        path.write_bytes(b"one")

    assert store(file, text, drawn) == [file, tmp_path / "bench.png"]
    check_file(file)

    def fails(path: Path) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store(file, "{}", fails)
    assert file.read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.png"]


def test_thresholds_name_every_ratio_beyond_its_bound() -> None:
    guard = RegressionThresholds("mid", {"decode": 1.2, "ingest": 1.1}, {"memory_bytes": 0.5})
    assert guard.broken({"decode": 1.3, "ingest": 1.2, "memory_bytes": 0.5}) == []
    assert guard.broken({"decode": 1.1, "memory_bytes": 0.6}) == [
        "ratio decode is 1.1, the threshold is at least 1.2",
        "ratio ingest was not measured, the threshold is at least 1.1",
        "ratio memory_bytes is 0.6, the threshold is at most 0.5",
    ]


def test_the_committed_bounds_are_ratios_that_the_quick_run_measures() -> None:
    guard = RegressionThresholds.read(THRESHOLDS)
    raw = {part: RAW[part] for part in PARTS["quick"] if part in RAW}
    assert set(guard.at_least) | set(guard.at_most) <= set(spreads(raw))
    assert guard.model == "mid" and guard.at_least and guard.at_most


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema": 2}',
        '{"schema": 1, "model": "mid", "at_least": {"a": "x"}, "at_most": {}}',
        '{"schema": 1, "model": "mid", "at_least": {"decode": NaN}, "at_most": {}}',
    ],
)
def test_a_bad_file_of_bounds_is_one_sentence(tmp_path: Path, content: str) -> None:
    file = tmp_path / "thresholds.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"thresholds\.json") as caught:
        RegressionThresholds.read(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        RegressionThresholds.read(tmp_path / "absent.json")
