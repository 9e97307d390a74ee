"""Laws of a trace: every token that was read is in one passage, with its true source, span, text, score and attention."""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mplus import Answer, Memory, MPlusModel, Passage, Trace
from mplus.attach.query_pass import prompt_features
from mplus.errors import InputError
from mplus.memory.ledger import Chunk
from mplus.retrieval.late_interaction import LateInteractionRetriever
from mplus.retrieval.result import Retrieved
from mplus.trace.passages import LONGEST, trace_of
from mplus.trace.trace import SourceUse
from tests.tiny import SETUPS, byte_tokenizer, tiny_decoder, tiny_geometry

FORMATS = Path(__file__).parents[2] / "formats"
PROMPT = "Where does Ana live?"
SHARED, PER_LAYER = ["shared", "in_text_order", "best_last", "recent"], ["per_layer", "mixed", "output"]


@functools.cache
def reading(setup: str, **changed: Any) -> MPlusModel:
    """A tiny model that reads text, of one of the ways in ``SETUPS``."""
    fields, parts = SETUPS[setup]
    with torch.random.fork_rng():
        torch.manual_seed(11)
        geometry = tiny_geometry(**{**fields, **changed})
        return MPlusModel.from_base(tiny_decoder(vocabulary=256), geometry=geometry, tokenizer=byte_tokenizer(), **parts)


def written(model: MPlusModel, **options: Any) -> Memory:
    """A memory of two named sources, written in turns, and text without a name."""
    memory = model.new_memory(seed=5, **options)
    for turn in range(4):
        memory.write(f"Ana lives in Porto since {1990 + turn}. She keeps bees.", source="ana")
        memory.write(f"Bert sails to harbour {turn}, past the old lighthouse.", source="letters/bert")
    memory.write("Nobody knows who wrote this line down.")
    return memory


def traced(model: MPlusModel, memory: Memory, **options: Any) -> tuple[Trace, Retrieved]:
    """The trace of an answer, and what its prompt retrieved."""
    retrieved: list[Retrieved] = []
    options = {"max_new_tokens": 3, "do_sample": False, "trace": True, **options}
    answer = model.generate(PROMPT, memory=memory, retrieved=retrieved, **options)
    assert isinstance(answer, Answer)
    return answer.trace, retrieved[0]


def source_ids(memory: Memory, name: str | None) -> list[int]:
    """All token ids of a source, from the chunks."""
    out: list[int] = []
    for chunk in memory.ledger.chunks:
        assert chunk.ids is not None
        at = 0
        for own, count in chunk.sources:
            out += chunk.ids[at : at + count] if (own or "") == name else []
            at += count
    return out


@pytest.mark.parametrize("setup", SHARED + PER_LAYER)
def test_every_token_read_is_in_one_passage_with_its_text(setup: str) -> None:
    model = reading(setup)
    memory = written(model)
    trace, retrieved = traced(model, memory)
    assert len({passage.source for passage in trace.passages}) >= 2
    for passage in trace.passages:
        assert passage.text is not None
        assert passage.text == memory.encoder.decode(source_ids(memory, passage.source)[passage.start : passage.stop])
        assert 0 < passage.layers <= 1
    short = {(row, False) for rows in memory.placement.rows.tolist() for row in rows}
    if not trace.per_layer:
        moved = {(row, True) for row in memory.placement.rows[0][retrieved.layers[0].short].tolist()}
        short = {pair for pair in short if (pair[0], True) not in moved} | moved
    read = short | {(row, True) for one in retrieved.layers for row in one.positions.tolist()}
    assert sum(passage.tokens for passage in trace.passages) == len(read)
    assert sum(passage.tokens for passage in trace.retrieved) == sum(chosen for _, chosen in read)
    assert trace.per_layer is (len(retrieved.layers) > 1)
    waiting = f"{memory.pending_tokens} tokens that wait for more text stood before the prompt as plain text"
    assert trace.note == (waiting if memory.pending_tokens else "")


@pytest.mark.parametrize("setup", SHARED)
def test_with_one_row_a_token_spans_are_exact(setup: str) -> None:
    """Rows are counted one by one in the slow way: token by token, where its source has it."""
    model = reading(setup)
    memory = written(model)
    trace, retrieved = traced(model, memory)
    places: dict[int, tuple[str, int]] = {}
    seen: dict[str, int] = {}
    for chunk in memory.ledger.chunks:
        for row in range(chunk.rows):
            name = chunk.source or ""
            places[chunk.first + row] = (name, seen.get(name, 0))
            seen[name] = seen.get(name, 0) + 1
    result = retrieved.layers[0]
    kept = memory.placement.rows[0]
    chosen = {places[row] for row in [*result.positions.tolist(), *kept[result.short].tolist()]}
    rest = {places[row] for row in kept.tolist()} - chosen
    for wanted, passages in ((chosen, trace.retrieved), (rest, [one for one in trace.passages if not one.retrieved])):
        got = [(passage.source, at) for passage in passages for at in range(passage.start, passage.stop)]
        assert len(got) == len(set(got)) and set(got) == wanted
    assert sum(passage.long_term for passage in trace.passages) == len(result.positions)


def test_a_passage_is_as_long_as_its_run_but_no_longer_than_the_longest() -> None:
    model = reading("best_last", stm_tokens=256, chunk_tokens=32, new_tokens=32)
    memory = model.new_memory()
    memory.write("a" * 150, source="long")
    trace, _ = traced(model, memory)
    lengths = sorted(passage.tokens for passage in trace.passages)
    assert lengths[-1] == LONGEST and sum(lengths) == memory.tokens_read
    spans = sorted((passage.retrieved, passage.start, passage.stop) for passage in trace.passages)
    joined = [(one, other) for one, other in itertools.pairwise(spans) if one[0] == other[0] and one[2] == other[1]]
    assert all(one[2] - one[1] == LONGEST for one, _ in joined)


@pytest.mark.parametrize("setup", SHARED)
def test_scores_are_those_of_the_passages_own_tokens_and_passages_stand_by_them(setup: str) -> None:
    """Computed again the slow way: from the keys of a passage's rows, one by one."""
    model = reading(setup)
    memory = written(model)
    trace, _ = traced(model, memory)
    retriever = model.parts.retriever
    assert isinstance(retriever, LateInteractionRetriever)
    ids = torch.tensor([model.tokenizer(PROMPT)["input_ids"]])
    query, weight = retriever.queries(prompt_features(model.parts, ids, torch.ones_like(ids, dtype=torch.bool)), ids > -1)
    short = memory.short_term.at_slots(memory.short_term.order, ("search",))["search"][0]
    keys = dict(zip(memory.placement.rows[0].tolist(), short, strict=True))
    keys |= dict(zip(memory.long_term.rows(0).tolist(), memory.long_term.column(0, "search"), strict=True))
    for passage in trace.passages:
        rows = rows_of(memory, passage)
        own = torch.stack([keys[row] for row in rows])
        assert passage.score == pytest.approx(float(weight[0] @ (query[0] @ own.T).amax(1)), rel=1e-4, abs=1e-5)
    scores = [passage.score or 0.0 for passage in trace.passages]
    assert scores == sorted(scores, reverse=True)
    assert trace.sources[0].score == scores[0]


def rows_of(memory: Memory, passage: Passage) -> list[int]:
    """Rows whose last text token lies in a passage."""
    return [
        chunk.first + row
        for chunk in memory.ledger.chunks
        if (chunk.source or "") == passage.source
        for row in range(chunk.rows)
        if passage.start <= _offset(memory, chunk, row) < passage.stop
    ]


@pytest.mark.parametrize("setup", PER_LAYER)
def test_scores_of_layers_are_averaged(setup: str) -> None:
    model = reading(setup)
    memory = written(model)
    trace, retrieved = traced(model, memory)
    for passage in trace.retrieved:
        total = 0.0
        rows = set(rows_of(memory, passage))
        for result in retrieved.layers:
            assert result.scores is not None
            own = [
                float(result.scores[index])
                for index, row in zip(result.indices, result.positions.tolist(), strict=True)
                if row in rows
            ]
            total += max(own, default=0.0)
        assert passage.score == pytest.approx(total / len(retrieved.layers), rel=1e-5)


def _offset(memory: Memory, chunk: Chunk, row: int) -> int:
    """The last text token of its source that a row stands for."""
    before = sum(
        count for one in memory.ledger.chunks if one.first < chunk.first for name, count in one.sources if name == chunk.source
    )
    if memory.geometry.write.tap == "output":
        return before + chunk.sources[0][1] - 1
    return before + memory.geometry.sizes.kept_positions(sum(count for _, count in chunk.sources))[row]


@pytest.mark.parametrize("setup", SHARED + PER_LAYER)
def test_attention_of_passages_and_bos_is_all_attention_on_memory(setup: str) -> None:
    model = reading(setup)
    memory = written(model)
    trace, _ = traced(model, memory, trace="attention")
    assert trace.bos_attention is not None and trace.memory_attention is not None
    assert all(passage.attention is not None and passage.attention > 0 for passage in trace.passages)
    assert 0 < trace.memory_attention + trace.bos_attention < 1
    by_attention = [passage.attention or 0.0 for passage in trace.ranked("attention")]
    assert by_attention == sorted(by_attention, reverse=True)
    assert sum(source.attention or 0.0 for source in trace.sources) == pytest.approx(trace.memory_attention)


def test_attention_falls_on_the_slots_of_its_passage() -> None:
    """Given by hand: all attention on one slot is all attention of the passage that stands there."""
    model = reading("best_last")
    memory = written(model)
    trace, retrieved = traced(model, memory)
    total = sum(passage.tokens for passage in trace.passages)
    for passage in trace.passages:
        slots = torch.zeros(2, 3 + total + 1)  # three unused slots, then BOS
        slots[:, slots.shape[1] - 1 - passage.to_prompt] = 1
        again = trace_of(memory, retrieved.layers, attention_LP=slots)
        assert [one.attention for one in again.passages if one.label == passage.label and one.retrieved == passage.retrieved] == [
            1
        ]
        assert again.bos_attention == 0 and again.memory_attention == 1
    on_bos = torch.zeros(2, total + 1)
    on_bos[:, 0] = 1
    assert trace_of(memory, retrieved.layers, attention_LP=on_bos).bos_attention == 1


@pytest.mark.parametrize("setup", ["best_last", "per_layer"])
def test_forked_and_saved_memories_are_traced_alike(setup: str, tmp_path: Path) -> None:
    model = reading(setup)
    memory = written(model)
    expected = traced(model, memory)[0].to_json()
    fork = memory.fork()
    assert traced(model, fork)[0].to_json() == expected
    fork.write("More text that only the fork has read, and that moves its memory on.", source="ana")
    assert traced(model, memory)[0].to_json() == expected
    assert traced(model, fork)[0].to_json() != expected
    memory.save(tmp_path / "memory")
    assert traced(model, Memory.load(tmp_path / "memory", model))[0].to_json() == expected


def test_a_forgotten_source_is_in_no_trace() -> None:
    model = reading("best_last")
    memory = written(model)
    memory.forget("ana")
    trace, _ = traced(model, memory)
    assert {source.name for source in trace.sources} <= {"letters/bert", ""}
    for passage in trace.passages:
        assert passage.text == memory.encoder.decode(source_ids(memory, passage.source)[passage.start : passage.stop])


@pytest.mark.parametrize("kind", ["shared", "per-layer"])
def test_an_old_memory_has_no_text_and_says_so(kind: str, tmp_path: Path) -> None:
    shutil.copytree(FORMATS / f"c48067e-{kind}", tmp_path / "stored")
    model = MPlusModel.from_pretrained(tmp_path / "stored" / "whole", dtype="float32")
    memory = Memory.load(next((tmp_path / "stored").glob("memory-*")), model)
    retrieved = model(torch.arange(5, 12)[None], memory=memory, return_retrieved=True).retrieved
    assert retrieved is not None
    trace = trace_of(memory, retrieved[0].layers)
    assert trace.passages and all(passage.text is None for passage in trace.passages)
    assert "token ids were not kept" in trace.note and "(no text kept)" in str(trace)
    named = {"first", "second"} if kind == "shared" else {None}  # rows of layers that dropped apart are not known by number
    assert {source.name for source in trace.sources} <= named
    Trace.from_json(json.loads(json.dumps(trace.to_json())))


def test_an_answer_with_a_trace_is_the_answer_without() -> None:
    model = reading("best_last")
    memory, other = written(model), written(model)
    other.write("Something else altogether, for the other reader.", source="other")
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False}
    plain = model.generate(PROMPT, memory=memory, **options)
    for trace in (True, "attention"):
        answer: Any = model.generate(PROMPT, memory=memory, trace=trace, **options)
        assert (answer.text, str(answer)) == (plain, plain)
    both = model.generate([PROMPT, "Who sails?"], memory=[memory, other], trace=True, **options)
    assert [one.text for one in both] == model.generate([PROMPT, "Who sails?"], memory=[memory, other], **options)
    assert "other" not in {source.name for source in both[0].trace.sources}
    assert "other" in {source.name for source in both[1].trace.sources}
    samples = model.generate(
        [PROMPT, "Who?"], memory=memory, trace=True, max_new_tokens=3, do_sample=True, num_return_sequences=2
    )
    assert [one.trace is samples[0].trace for one in samples] == [True, True, False, False]


def test_chat_answers_with_a_trace() -> None:
    model = reading("best_last")
    memory = written(model)
    messages = [{"role": "user", "content": PROMPT}]
    plain = model.chat(messages, memory=memory, max_new_tokens=6, do_sample=False)
    answer = model.chat(messages, memory=memory, max_new_tokens=6, do_sample=False, trace=True)
    assert answer.text == plain and answer.trace.passages
    several = model.chat([messages, messages], memory=memory, max_new_tokens=6, do_sample=False, trace=True)
    assert [one.text for one in several] == [plain, plain]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"trace": "everything"}, "trace must be True, 'attention' or False, got 'everything'"),
        ({"trace": True, "memory": None}, "none was given"),
        ({"trace": "attention", "num_beams": 2}, "cannot be used with num_beams"),
        ({"trace": "attention", "use_cache": False}, "cannot be used with use_cache=False"),
        ({"trace": "attention", "prompt_lookup_num_tokens": 3}, "cannot be used with prompt_lookup_num_tokens"),
    ],
)
def test_what_cannot_be_traced_is_refused(options: dict[str, Any], problem: str) -> None:
    model = reading("best_last")
    call: dict[str, Any] = {"memory": written(model), "max_new_tokens": 3, **options}
    with pytest.raises(InputError, match=problem):
        model.generate(PROMPT, **call)
    with pytest.raises(InputError, match="give the prompt as text"):
        model.generate(torch.arange(5, 9), memory=call["memory"], trace=True)


def test_a_trace_goes_through_json() -> None:
    model = reading("best_last")
    trace, _ = traced(model, written(model), trace="attention")
    data = json.loads(json.dumps(trace.to_json()))
    assert Trace.from_json(data) == trace
    assert [SourceUse(**one) for one in data["sources"]] == list(trace.sources)
    for damaged, problem in (({}, "no trace of schema"), ([], "no trace"), ({**data, "passages": [{}]}, "damaged")):
        with pytest.raises(InputError, match=problem):
            Trace.from_json(damaged)  # type: ignore[arg-type]


def test_ranking_by_what_was_not_measured_is_refused() -> None:
    model = reading("best_last")
    trace, _ = traced(model, written(model))
    with pytest.raises(InputError, match="attention was not measured"):
        trace.ranked("attention")
    with pytest.raises(InputError, match="got 'age'"):
        trace.ranked_sources("age")  # type: ignore[arg-type]


def test_a_trace_reads_well(tmp_path: Path) -> None:
    model = reading("best_last")
    assert Trace().summary == "nothing was retrieved: all 0 tokens read are in short-term memory"
    trace, _ = traced(model, written(model), trace="attention")
    text = str(trace)
    assert all(part in text for part in ("Passages read", "attention", "retrieved 16 tokens in 1 passage: 100% "))
    assert all(source.name or "(no name)" in text for source in trace.sources)
    for number, one in enumerate((trace, Trace())):
        one.plot(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
    empty = reading("best_last").new_memory()
    empty.write("x" * 20, source="[red]$tricky$[/red]\x1b[31m")
    odd, _ = traced(model, empty)
    odd.plot(tmp_path / "odd.png")
    assert "[red]" in str(odd) and "\x1b" not in str(odd)


def test_a_passage_says_where_it_was_kept() -> None:
    fields: dict[str, Any] = {"source": "a", "start": 0, "stop": 8, "text": "", "tokens": 8, "to_prompt": 0}
    kept = [
        Passage(**fields, long_term=count, retrieved=chosen).place
        for count, chosen in ((0, False), (0, True), (8, True), (4, True))
    ]
    assert kept == ["short-term", "short-term, retrieved", "long-term", "both, retrieved"]
