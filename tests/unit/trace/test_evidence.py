"""Laws of evidence: it is that of a slow twin over all windows, and a passage that covers the question beats one that does not."""

from __future__ import annotations

import functools

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.attach.read_pass import Reading
from mplus.inference.confidence import judgements_of
from mplus.settings.calibration import Calibration
from mplus.text.prompts import Prompts
from mplus.trace.evidence import AROUND_ANSWER, EVIDENCE, PASSAGE, SENTENCE, Asked, evidence_of
from mplus.trace.prefix_tokens import prefix_tokens
from mplus.trace.spans import Spans
from tests.tiny import SETUPS, byte_tokenizer, tiny_decoder, tiny_geometry

QUESTION = "Where does Ana live?"


@functools.cache
def reading_model(setup: str) -> MPlusModel:
    """A tiny model that reads text, of one of the ways in ``SETUPS``, with room to read some sentences."""
    fields, parts = SETUPS[setup]
    sizes = {} if setup == "per_layer" else {"stm_tokens": 128, "ltm_read_tokens": 64}
    with torch.random.fork_rng():
        torch.manual_seed(11)
        geometry = tiny_geometry(**{**fields, **sizes})
        return MPlusModel.from_base(tiny_decoder(vocabulary=256), geometry=geometry, tokenizer=byte_tokenizer(), **parts)


def written(model: MPlusModel) -> Memory:
    memory = model.new_memory(seed=5)
    memory.write("Ana lives in Porto since 1990 and keeps a hundred bees behind the house.", source="ana")
    memory.write("Bert sails past the old lighthouse.", source="bert")
    return memory


def read(model: MPlusModel, memory: Memory, question: str) -> Reading:
    ids = model.tokenizer(question, add_special_tokens=False)["input_ids"]
    prompts = Prompts.from_rows([ids], 0, model.device)
    with model.reader.request(prompts, memory) as request, model.reader.for_reading(request, request.tokens):
        return model.reader.reading(request, room=request.tokens)


def windows(memory: Memory, reading: Reading, width: int) -> list[tuple[list[int], str]]:
    """Slow twin: columns of ``prefix_tokens`` and text of each window."""
    (layer,) = prefix_tokens(memory, reading.results[0])
    spans, held = Spans(memory), sorted((int(one), at) for at, one in enumerate(layer.positions))
    runs: list[list[tuple[int, int]]] = []
    for position, at in held:
        goes_on = runs and runs[-1][-1][0] == position - 1 and spans.of(position).source == spans.of(position - 1).source
        runs[-1].append((position, at)) if goes_on else runs.append([(position, at)])
    found = []
    for run in runs:
        starts = range(0, max(1, len(run) - width + 8), 8)
        for start in starts:
            part = run[start : start + width]
            ids = []
            for position, _ in part:
                span = spans.of(position)
                assert span.chunk is not None and span.chunk.ids is not None
                ids += [int(one) for one in span.chunk.ids[span.first : span.last]]
            found.append(([at for _, at in part], memory.encoder.decode(ids).lower()))
    return found


@pytest.mark.parametrize("setup", ["best_last", "in_text_order"])
def test_evidence_is_that_of_a_slow_twin(setup: str) -> None:
    model = reading_model(setup)
    memory = written(model)
    reading = read(model, memory, QUESTION)
    results = reading.results[0]
    (layer,) = prefix_tokens(memory, results)
    assert results[0].own_match is not None
    own, weights, most = results[0].own_match(), layer.weights, layer.matches.amax(1)
    ids = reading.query.prompts.rows()[0]
    found = evidence_of(memory, results, Asked(ids, slice(0, len(ids))))
    assert found is not None
    evidence = found.of_answer("Porto")
    assert tuple(evidence) == EVIDENCE

    def best(width: int, holding: str = "") -> tuple[torch.Tensor, str]:
        kept = [(layer.matches[:, at].amax(1), text) for at, text in windows(memory, reading, width) if holding in text]
        return max(kept, key=lambda one: float(weights @ one[0]))

    shares = [(layer.matches[:, at].amax(1) / own.clamp(min=1e-6)).clamp(max=1) for at, _ in windows(memory, reading, PASSAGE)]
    assert evidence["match"] == pytest.approx(max(float(weights @ one) for one in shares), abs=1e-5)
    assert evidence["spread"] == pytest.approx(float(((most - best(SENTENCE)[0]) * weights).amax()), abs=1e-5)
    at_answer = float(((most - best(AROUND_ANSWER, "porto")[0]) * weights).amax())
    assert evidence["spread_at_answer"] == pytest.approx(at_answer, abs=1e-5)
    nowhere = found.of_answer("Lisbon")
    assert nowhere["spread_at_answer"] == pytest.approx(float((most * weights).amax()) / 2, abs=1e-5)
    words = set(best(PASSAGE)[1].replace(".", " ").replace(",", " ").split())
    assert evidence["words"] == pytest.approx(
        _share({"where": 5, "does": 4, "ana": 3, "live": 4}, words, weights.tolist()), abs=1e-5
    )


def _share(lengths: dict[str, int], words: set[str], weights: list[float]) -> float:
    """Share of a question's words, by the weights of their bytes, that stand among others."""
    start, held, total = 0, 0.0, 0.0
    for word, length in lengths.items():
        weight = sum(weights[start : start + length])
        total, held = total + weight, held + weight * (word in words)
        start += length + 1
    return held / total


def test_an_unknown_name_is_missing_and_a_known_one_is_not() -> None:
    model = reading_model("best_last")
    memory = written(model)

    def missing(question: str) -> float:
        (one,) = judgements_of(read(model, memory, question), None, model.tokenizer)
        evidence, confidence = one.of_answer("Porto")
        assert evidence is not None and confidence is None  # the model has no calibration
        return evidence["missing_at_answer"]

    assert missing("Ana lives in Porto") == 0.0
    assert missing("Zoe lives in Porto") > 5.0


def test_evidence_outlives_changes_of_the_memory() -> None:
    model = reading_model("best_last")
    memory = written(model)
    (kept,) = judgements_of(read(model, memory, QUESTION), None, model.tokenizer)
    (again,) = judgements_of(read(model, memory, QUESTION), None, model.tokenizer)
    memory.clear()
    assert kept.of_answer("Porto") == again.of_answer("Porto")


def test_an_empty_memory_holds_no_answer() -> None:
    model = reading_model("best_last")
    calibration = Calibration(bias=5.0, weights={"match": 1.0})
    (one,) = judgements_of(read(model, model.new_memory(), QUESTION), calibration, model.tokenizer)
    assert one.of_answer("Porto") == (None, 0.0)


def test_a_model_whose_layers_search_apart_shows_no_evidence() -> None:
    model = reading_model("per_layer")
    memory = written(model)
    (one,) = judgements_of(read(model, memory, QUESTION), Calibration(bias=0.0, weights={"match": 1.0}), model.tokenizer)
    assert one.of_answer("Porto") == (None, None)
