"""Laws of pooled rows: a memory token is the mean of its text tokens, found by each of them, and all else holds as with one token a row."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mplus import Answer, Memory, MPlusModel
from mplus.attach.query_pass import prompt_features
from mplus.attach.write_pass import Tail, write_pass
from mplus.errors import GeometryError, InputError
from mplus.evaluation.scoring.retrieval_recall import ChunkBirths
from mplus.index.pca_sketch import PcaSketch
from mplus.memory.rows import EncodedChunk, Rows
from mplus.retrieval import block_scores
from mplus.retrieval.blocks import BlockTable
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.settings import Geometry
from mplus.trace.evidence import SENTENCE, _Runs
from mplus.trace.spans import Spans, ids_of
from tests import tiny
from tests.tiny import contents, ids, same_contents, search_from

RATIOS = (2, 4)
CHUNK = 16


@functools.cache
def model_of(ratio: int, setup: str = "best_last", **changed: Any) -> MPlusModel:
    """A tiny model whose memory tokens stand for `ratio` text tokens; the weights do not depend on it."""
    own: dict[str, Any] = {} if ratio == 1 else {"tokens_per_row": ratio}
    changed = {"stm_tokens": 32, **changed}
    return tiny.tiny_model("llama", setup, new_tokens=CHUNK // ratio, chunk_tokens=CHUNK, **own, **changed)


@functools.cache
def unpooled(setup: str = "best_last") -> MPlusModel:
    return tiny.tiny_model("llama", setup, new_tokens=CHUNK, chunk_tokens=CHUNK, stm_tokens=64)


def mean_rows(rows: Rows, ratio: int) -> Rows:
    """Means of keys and values, in plain loops."""
    out = {}
    for name in ("keys", "values"):
        count = rows[name].shape[1]
        groups = [range(first, min(first + ratio, count)) for first in range(0, count, ratio)]
        means = [sum((rows[name][:, at].double() for at in group), torch.zeros(1)) / len(group) for group in groups]
        out[name] = torch.stack(means, 1).float()
    return out


def written(model: MPlusModel, **options: Any) -> Memory:
    """A memory of texts of many lengths, whole and short chunks."""
    memory = model.new_memory(seed=3, **options)
    for number, length in enumerate((16, 5, 37, 3, 48, 1, 64, 50)):
        memory.write(ids(length, number), source=f"text {number % 5}")
    return memory


# -- what is written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 3, 7, 16])
@pytest.mark.parametrize("ratio", RATIOS)
def test_a_row_is_the_mean_of_its_tokens_and_is_found_by_each(ratio: int, length: int) -> None:
    whole, few = (model.encode(ids(length)) for model in (unpooled(), model_of(ratio)))
    assert whole.tokens == length and few.tokens == -(-length // ratio) and few.text_tokens == length
    for name, value in mean_rows(whole.rows, ratio).items():
        torch.testing.assert_close(few.rows[name], value, atol=1e-6, rtol=1e-5)
    keys, own = whole.rows["search"][0], few.rows["search"][0]
    for row in range(few.tokens):
        for place in range(ratio):
            assert torch.equal(own[row, place], keys[min(row * ratio + place, length - 1)])


def test_one_token_a_row_is_the_default() -> None:
    models = tiny.tiny_model("llama", "best_last"), tiny.tiny_model("llama", "best_last", tokens_per_row=1)
    plain, said = (model.encode(ids(7)) for model in models)
    assert all(torch.equal(plain.rows[name], said.rows[name]) for name in plain.rows) and plain.rows["search"].dim() == 3


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_chunk_sees_the_pooled_rows_of_its_source(ratio: int) -> None:
    model, plain = model_of(ratio), unpooled()
    memory = model.new_memory()
    memory.write(ids(23), source="one")
    tail, rows = Tail(), []
    for start in (0, CHUNK):
        chunk = ids(23)[start : start + CHUNK][None]
        layout = plain.writer.layout("kv", plain.geometry)
        rows.append(mean_rows(write_pass(plain.parts, plain.geometry, layout, chunk, tail)[0].rows, ratio))
        tail = Tail(keys=rows[0]["keys"][None], values=rows[0]["values"][None])
    held = memory.short_term.newest(len(memory.short_term))
    for name in ("keys", "values"):
        torch.testing.assert_close(held[name], torch.cat([part[name] for part in rows], 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ratio", RATIOS)
def test_chunks_of_a_padded_pass_are_as_alone(ratio: int) -> None:
    model = model_of(ratio)
    lengths, together, alone = (16, 7, 3), model.new_memory(), model.new_memory()
    model.write_many(together, [ids(length, length) for length in lengths], [f"text {length}" for length in lengths])
    for length in lengths:
        alone.write(ids(length, length), source=f"text {length}")
    assert [chunk.rows for chunk in together.ledger.chunks] == [-(-length // ratio) for length in lengths]
    for name in ("keys", "values", "search"):
        torch.testing.assert_close(together.short_term.newest(99)[name], alone.short_term.newest(99)[name], atol=1e-5, rtol=1e-4)


def test_texts_that_wait_share_a_row() -> None:
    memory = model_of(4, write_context="memory", min_write_tokens=8).new_memory()
    memory.write(ids(5, 1), source="first")
    assert memory.pending_tokens == 5 and memory.now == 0
    memory.write(ids(6, 2), source="second")
    spans = Spans(memory)
    found = [spans.of(row) for row in range(memory.now)]
    assert memory.now == 3 and [span.source for span in found] == ["first", "second", "second"]
    assert [(span.start, span.stop) for span in found] == [(0, 4), (0, 3), (3, 6)]


# -- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_read_is_that_of_a_memory_of_the_means(ratio: int) -> None:
    model, plain = model_of(ratio, "shared"), unpooled("shared")
    memory, by_hand = model.new_memory(), plain.new_memory()
    for number, length in enumerate((16, 7)):
        memory.write(ids(length, number), source=f"text {number}")
        rows = mean_rows(plain.encode(ids(length, number)).rows, ratio)
        rows["search"] = torch.zeros(1, rows["keys"].shape[1], *plain.new_memory().layout.fields["search"])
        by_hand.update(EncodedChunk(rows, length))
    prompt = ids(6, 9)[None]
    torch.testing.assert_close(model(prompt, memory=memory).logits, plain(prompt, memory=by_hand).logits, atol=1e-5, rtol=1e-4)
    assert len(memory.short_term) == -(-16 // ratio) + -(-7 // ratio)


def scored_by_hand(model: MPlusModel, memory: Memory, prompt: Tensor) -> list[float]:
    """Scores of all windows in the order of the text: each prompt token's best match with any text token of the window."""
    retriever = model.parts.retriever
    assert isinstance(retriever, LateInteractionRetriever)
    text = torch.ones_like(prompt, dtype=torch.bool)
    query, weight = retriever.queries(prompt_features(model.parts, prompt, text), text)
    births = [*memory.long_term.births(0).tolist(), *memory.placement.births[0].tolist()]
    keys = torch.cat([memory.long_term.column(0, "search"), memory.short_term.at_slots(memory.short_term.order)["search"][0]])
    block = memory.geometry.read.block_tokens
    by_block: dict[int, list[Tensor]] = {}
    for birth, own in zip(births, keys, strict=True):
        by_block.setdefault(birth // block, []).extend(own)
    scores = []
    for number in sorted(by_block):
        window = [key for step in range(retriever.window) for key in by_block.get(number + step, [])]
        best = [max(float(one @ key) for key in window) for one in query[0]]
        scores.append(sum(float(share) * one for share, one in zip(weight[0], best, strict=True)))
    return scores


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_block_is_scored_by_all_its_text_tokens(ratio: int, monkeypatch: pytest.MonkeyPatch) -> None:
    search_from(monkeypatch, 8, candidates=10_000)
    model = model_of(ratio)
    memory, prompt = written(model), ids(6, 9)[None]
    retriever, text = model.parts.retriever, torch.ones_like(prompt, dtype=torch.bool)
    assert isinstance(retriever, LateInteractionRetriever)
    table, features = BlockTable.of(memory, with_short_term=True), prompt_features(model.parts, prompt, text)
    exact = block_scores.of_all(retriever, memory, table, features, text)[0]
    assert exact.tolist() == pytest.approx(scored_by_hand(model, memory, prompt), abs=1e-4)
    index = memory.long_term.index_of(0)
    assert isinstance(index, PcaSketch) and len(index) >= 8 and index.keys_per_row == ratio
    indexed = block_scores.of_candidates(retriever, memory, table, index, features, text)[0]
    torch.testing.assert_close(indexed, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(
    "options", [{}, {"ltm_dtype": "int8", "ltm_search_dtype": "int8"}, {"same_slot": "newest"}, {"ltm": False}]
)
def test_a_memory_is_read_and_generates(ratio: int, options: dict[str, Any]) -> None:
    model = model_of(ratio)
    memory = written(model, **options)
    assert model(ids(4)[None], memory=memory).logits.isfinite().all()
    assert model.generate(ids(5)[None], memory=memory, max_new_tokens=3, do_sample=False).shape == (1, 8)


# -- the life of a memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [16, 400])
@pytest.mark.parametrize("ratio", RATIOS)
def test_what_is_forgotten_was_never_read(ratio: int, capacity: int) -> None:
    model = model_of(ratio)
    both, other = (model.new_memory(seed=5, ltm_capacity=capacity) for _ in range(2))
    for name, length in (("a", 45), ("b", 38), ("c", 61), ("a", 7), ("b", 20), ("c", 33)):
        both.write(ids(length, ord(name) + length), source=name)
        if name != "b":
            other.write(ids(length, ord(name) + length), source=name)
    both.forget("b")
    assert same_contents(contents(both), contents(other))


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("ratio", RATIOS)
def test_a_stored_memory_opens_as_it_was(ratio: int, on_disk: bool, tmp_path: Path) -> None:
    model = model_of(ratio)
    memory = written(model, **({"store": tmp_path / "rows"} if on_disk else {}))
    memory.save(tmp_path / "saved")
    again = Memory.load(tmp_path / "saved", model_of(1))  # the ratio is the memory's own
    assert again.geometry.sizes.tokens_per_row == ratio
    assert same_contents(contents(memory), contents(again))
    for each in (memory, again):
        each.write(ids(19, 8), source="text 1")
    assert same_contents(contents(memory), contents(again))
    assert torch.equal(model(ids(4)[None], memory=memory).logits, model(ids(4)[None], memory=again).logits)


def test_memories_of_two_ratios_do_not_mix() -> None:
    two, four = (model_of(ratio).new_memory(ltm=False) for ratio in RATIOS)
    for memory in (two, four):
        memory.write(ids(9), source="same")
    with pytest.raises(InputError, match="tokens_per_row"):
        two.merge(four)
    before = contents(two)
    with pytest.raises(InputError, match="another form"):
        two.update(model_of(4).encode(ids(9), four))
    with pytest.raises(InputError, match="another form"):
        model_of(1).new_memory().update(model_of(2).encode(ids(9)))
    assert same_contents(before, contents(two))


# -- which text a row stands for -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", RATIOS)
def test_rows_stand_for_all_of_a_source_once(ratio: int) -> None:
    memory = written(model_of(ratio))
    spans, births = Spans(memory), ChunkBirths()
    found = [spans.of(row) for row in range(memory.now)]
    for name in dict.fromkeys(span.source for span in found):
        own = [span for span in found if span.source == name]
        assert [span.start for span in own] == [0, *(span.stop for span in own[:-1])]
        assert ids_of(own) == memory.ids(name or "")
    assert {span.stop - span.start for span in found} <= set(range(1, ratio + 1))
    start = 0
    for chunk in memory.ledger.chunks:
        births.note(start, start + sum(count for _, count in chunk.sources), chunk.first, chunk.stop)
        start += sum(count for _, count in chunk.sources)
    lengths = [span.stop - span.start for span in found]
    ends = [sum(lengths[: row + 1]) for row in range(len(lengths))]
    for first, last in ((0, 1), (3, 4), (14, 19), (20, 22), (60, 99), (0, start)):
        rows = [row for row, end in enumerate(ends) if end > first and end - lengths[row] < last]
        assert births.of((first, last), spread=True, tokens_per_row=ratio).tolist() == rows


@functools.cache
def reading(ratio: int) -> MPlusModel:
    """A tiny model that reads text."""
    geometry = tiny.tiny_geometry(
        chunk_tokens=32, new_tokens=32 // ratio, tokens_per_row=ratio, stm_tokens=32, ltm_read_tokens=16, read_order="score"
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return MPlusModel.from_base(tiny.tiny_decoder(vocabulary=256), geometry=geometry, tokenizer=tiny.byte_tokenizer())


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_trace_shows_the_text_of_every_passage(ratio: int) -> None:
    model = reading(ratio)
    memory = model.new_memory()
    for turn in range(5):
        memory.write(f"Ana lives in Porto since {1990 + turn}. She keeps bees.", source="ana")
        memory.write(f"Bert sails to harbour {turn}, past the old lighthouse.", source="bert")
    answer = model.generate("Where does Ana live?", memory=memory, max_new_tokens=2, do_sample=False, trace=True)
    assert isinstance(answer, Answer)
    assert len(answer.trace.passages) > 2
    for passage in answer.trace.passages:
        assert passage.source is not None
        assert passage.text == memory.encoder.decode(memory.ids(passage.source)[passage.start : passage.stop])
        assert passage.tokens <= passage.stop - passage.start <= passage.tokens * ratio


@pytest.mark.parametrize("ratio", RATIOS)
def test_evidence_is_looked_for_in_as_much_text(ratio: int) -> None:
    model = reading(ratio)
    memory = model.new_memory()
    memory.write("Ana lives in Porto since 1990. She keeps bees. Bert sails.", source="ana")
    runs = _Runs.of(memory, list(range(memory.now)))
    assert runs is not None
    windows = runs.windows(torch.randn(3, memory.now), SENTENCE)
    assert max(len(ids_of(spans) or []) for spans in windows.spans) == SENTENCE
    assert sorted({span.start for spans in windows.spans for span in spans})[0] == 0


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"tokens_per_row": 0}, "tokens_per_row: Input should be greater than or equal to 1, got 0"),
        ({"tokens_per_row": "two"}, "tokens_per_row: Input should be a valid integer.* got 'two'"),
        ({"tokens_per_row": 3}, r"chunk_tokens \(256\) must be a multiple of tokens_per_row \(3\)"),
        ({"tokens_per_row": 512}, r"chunk_tokens \(256\) must be a multiple of tokens_per_row \(512\)"),
        (
            {"tokens_per_row": 2, "K": 256},
            r"new_tokens \(K\) is 256, but .* 256 / tokens_per_row = 128 memory tokens; leave K out",
        ),
        ({"tokens_per_row": 2, "write_tap": "output"}, "tokens_per_row is 2 and write_tap 'output', expected 'input'"),
        ({"tokens_per_row": 2, "memory_projection": "read"}, "memory_projection 'read', expected 'write'"),
        ({"tokens_per_row": 2, "retrieval": "per_layer", "drop": "shared"}, "retrieval 'per_layer', expected 'shared'"),
    ],
)
def test_settings_that_cannot_pool_are_refused_in_one_sentence(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(GeometryError, match=told) as caught:
        Geometry(**changed)
    assert "\n" not in str(caught.value)


def test_the_rows_of_a_chunk_follow_from_the_ratio() -> None:
    def sizes(geometry: Geometry) -> Sequence[int]:
        return geometry.sizes.new_tokens, geometry.sizes.chunk_tokens, geometry.sizes.tokens_per_row

    assert sizes(Geometry(tokens_per_row=4)) == (64, 256, 4)
    half = Geometry(chunk_tokens=512, K=512).changed(tokens_per_row=2)
    assert sizes(half) == (256, 512, 2)
    assert sizes(half.changed(chunk_tokens=256)) == (128, 256, 2)
    assert sizes(half.changed(tokens_per_row=1)) == (512, 512, 1)
    assert sizes(half.changed(stm_tokens=2048)) == (256, 512, 2)
    assert sizes(Geometry(K=128).changed(chunk_tokens=512)) == (128, 512, 1)
    assert Geometry(**half.flat()) == half


def test_hidden_states_are_not_pooled() -> None:
    with pytest.raises(
        GeometryError, match="tokens_per_row is 2, which takes means of keys and values, and memory_format is 'hidden'"
    ):
        model_of(2).new_memory(memory_format="hidden")


def test_a_model_of_pooled_rows_is_stored_and_keeps_keys_and_values(tmp_path: Path) -> None:
    base = tiny.tiny_decoder(num_key_value_heads=4)
    base.save_pretrained(tmp_path / "base")
    geometry = tiny.tiny_geometry(chunk_tokens=16, new_tokens=8, tokens_per_row=2, stm_tokens=32)
    model = MPlusModel.from_base(base, geometry=geometry)
    model.save_pretrained(tmp_path / "model")
    again = MPlusModel.from_pretrained(tmp_path / "model", base=tmp_path / "base")
    assert again.geometry == geometry
    assert [one.new_memory().format for one in (model, again)] == ["kv", "kv"]  # where a hidden state is smaller
