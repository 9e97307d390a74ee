"""Laws of confidences: told where asked, the answer is the same with and without, and below a minimum it is the refusal."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mplus import Memory, MPlusModel
from mplus.conversation import Conversation
from mplus.errors import InputError
from mplus.inference.prefill import Prefill
from mplus.settings.calibration import REFUSAL, Calibration
from tests import tiny

PROMPT = "Where does Ana live?"
OPTIONS: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}


@pytest.fixture(scope="module")
def model() -> MPlusModel:
    found = tiny.text_model(read_order="score")
    found.checkpoint.calibration = Calibration(bias=-0.5, weights={"match": 1.0, "missing": -0.01})
    return found


@pytest.fixture
def memory(model: MPlusModel) -> Memory:
    memory = model.new_memory()
    memory.write("Ana lives in Porto since 1990. She keeps bees.", source="ana")
    return memory


def test_confidence_is_told_with_and_without_a_trace(model: MPlusModel, memory: Memory) -> None:
    plain = model.generate(PROMPT, memory, **OPTIONS)
    told, traced = (
        model.generate(PROMPT, memory, confidence=True, **OPTIONS),
        model.generate(PROMPT, memory, trace=True, **OPTIONS),
    )
    assert told.text == traced.text == plain
    assert told.confidence == traced.confidence and told.confidence is not None and 0 < told.confidence < 1
    assert told.evidence is not None and model.calibration is not None
    assert told.confidence == model.calibration.confidence(told.evidence)
    assert traced.trace.passages and not told.trace.passages and told.trace.note


def test_an_answer_below_the_minimum_is_the_refusal(model: MPlusModel, memory: Memory) -> None:
    confidence = model.generate(PROMPT, memory, confidence=True, **OPTIONS).confidence
    assert confidence is not None
    plain = model.generate(PROMPT, memory, **OPTIONS)
    assert model.generate(PROMPT, memory, min_confidence=confidence, **OPTIONS) == plain
    assert model.generate(PROMPT, memory, min_confidence=min(1.0, confidence + 1e-3), **OPTIONS) == REFUSAL
    refused = model.generate(PROMPT, memory, min_confidence=1, confidence=True, **OPTIONS)
    assert (refused.text, refused.confidence) == (REFUSAL, confidence)


def test_prompts_are_judged_each_for_itself(model: MPlusModel, memory: Memory) -> None:
    prompts = [PROMPT, "Who?"]
    alone = [model.generate(one, memory, confidence=True, **OPTIONS).confidence for one in prompts]
    together = [one.confidence for one in model.generate(prompts, memory, confidence=True, **OPTIONS)]
    assert together == pytest.approx(alone, abs=1e-4)
    samples = model.generate(prompts, memory=memory, confidence=True, max_new_tokens=3, do_sample=True, num_return_sequences=2)
    assert len(samples) == 4


def test_an_empty_memory_refuses_everything(model: MPlusModel) -> None:
    answer = model.generate(PROMPT, model.new_memory(), confidence=True, min_confidence=0.01, **OPTIONS)
    assert (answer.text, answer.confidence) == (REFUSAL, 0.0)


def test_a_model_without_calibration_says_how_to_fit_one(text_model: MPlusModel) -> None:
    memory = text_model.new_memory()
    memory.write("Ana lives in Porto.")
    for wish in ({"confidence": True}, {"min_confidence": 0.5}):
        with pytest.raises(InputError, match="mplus calibrate MODEL --out DIR"):
            text_model.generate(PROMPT, memory, **wish, **OPTIONS)
    assert text_model.generate(PROMPT, memory, trace=True, **OPTIONS).confidence is None


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ({"min_confidence": 1.5}, "min_confidence is 1.5, expected a number from 0"),
        ({"min_confidence": True}, "min_confidence is True"),
        ({"min_confidence": "half"}, "min_confidence is 'half'"),
        ({"confidence": 0.5}, "confidence must be True or False, got 0.5; min_confidence takes a number"),
        ({"min_confidence": 0.5, "memory": None}, "min_confidence tells of what was read of a memory, and none was given"),
        ({"min_confidence": 0.5, "streamer": object()}, "min_confidence cannot be used with a streamer"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(model: MPlusModel, memory: Memory, wish: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        model.generate(PROMPT, **{"memory": memory, **wish, **OPTIONS})


def test_token_ids_have_no_confidence(model: MPlusModel, memory: Memory) -> None:
    with pytest.raises(InputError, match="min_confidence is of answers as text; give the prompt as text"):
        model.generate(torch.arange(5, 9), memory=memory, min_confidence=0.5)


def test_a_prompt_in_pieces_is_judged_as_one_in_a_call(model: MPlusModel, memory: Memory) -> None:
    told = model.generate(PROMPT, memory, confidence=True, **OPTIONS)
    (row,) = model.reader.text_rows([PROMPT], behind_memory=True)
    prefill = Prefill(model.reader, [row, row], [memory, memory], new_tokens=5, judged=[1])
    assert set(prefill.judgements) == {1}
    evidence, confidence = prefill.judgements[1].of_answer(told.text)
    assert evidence == pytest.approx(told.evidence, abs=1e-4) and confidence == pytest.approx(told.confidence, abs=1e-4)


def test_a_calibration_is_stored_with_the_model(model: MPlusModel, tmp_path: Any) -> None:
    model.save_pretrained(tmp_path / "own", include_base=True)
    assert MPlusModel.from_pretrained(tmp_path / "own").calibration == model.calibration


def test_a_refusal_is_said_in_a_conversation_and_not_remembered(model: MPlusModel, memory: Memory) -> None:
    talk = Conversation(model, memory, source="talk", options={**OPTIONS, "min_confidence": 1.0})
    pieces: list[str] = []
    assert talk.ask(PROMPT, pieces.append) == REFUSAL == "".join(pieces)
    assert talk.confidence is not None
    assert talk.keep() == "talk"
    assert REFUSAL not in memory.text("talk") and PROMPT in memory.text("talk")
