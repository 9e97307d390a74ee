"""Laws of fitting a calibration: it finds what tells present from absent, and refuses models and rows that cannot be fitted."""

from __future__ import annotations

from random import Random

import pytest

from mplus import MPlusModel
from mplus.corpus.absent import AskedQuestion, question_set
from mplus.errors import InputError
from mplus.trace.evidence import EVIDENCE
from mplus.training.calibration import EvidenceRow, check_calibratable, fit, read_rows
from tests import tiny

FILLER = "Nothing of interest to anybody is said here, and it goes on for long. " * 6


def rows(count: int, *, gain: float, seed: int = 0) -> list[EvidenceRow]:
    """Rows whose `match` says the label, as far as `gain` goes, and whose other evidence is noise."""
    rng, made = Random(seed), []
    for number in range(count):
        present = number % 2 == 0
        evidence = {name: rng.gauss(0, 1) for name in EVIDENCE}
        evidence["match"] = 0.5 + 0.1 * (gain * (present - 0.5) + rng.gauss(0, 1))
        question = AskedQuestion(kind="fact", text="Who?", answers=("Ana",), is_present=present)
        made.append(EvidenceRow(question, "Ana", evidence))
    return made


def test_a_fit_tells_rows_that_it_never_saw() -> None:
    calibration, others = fit(rows(200, gain=4.0)), rows(200, gain=4.0, seed=1)
    right = [(calibration.confidence(row.evidence) > 0.5) == row.question.is_present for row in others]
    assert sum(right) / len(right) > 0.9
    assert max(calibration.weights, key=lambda name: abs(calibration.weights[name])) == "match"


def test_a_confidence_says_how_often_it_is_so() -> None:
    calibration, others = fit(rows(400, gain=1.0)), rows(2000, gain=1.0, seed=2)
    sure = [row for row in others if calibration.confidence(row.evidence) > 0.6]
    mean = sum(calibration.confidence(row.evidence) for row in sure) / len(sure)
    assert sum(row.question.is_present for row in sure) / len(sure) == pytest.approx(mean, abs=0.06)


def test_a_fit_does_not_depend_on_the_share_of_absent_questions() -> None:
    every = rows(800, gain=3.0)
    fewer = [row for number, row in enumerate(every) if row.question.is_present or number % 8 == 1]
    first, second = (fit(some).confidence({**dict.fromkeys(EVIDENCE, 0.0), "match": 0.5}) for some in (every, fewer))
    assert first == pytest.approx(second, abs=0.1)


def test_rows_of_one_label_are_refused() -> None:
    with pytest.raises(InputError, match="with and without an answer in memory"):
        fit([row for row in rows(20, gain=1.0) if row.question.is_present])


def test_every_question_gets_evidence() -> None:
    model = tiny.text_model(positions=1024)
    asked = question_set("train", 1, size=12, filler=FILLER)
    done: list[int] = []
    found = read_rows(model, asked, progress=done.append)
    assert [row.question for row in found] == asked.questions and done[-1] == len(found)
    assert all(set(row.evidence) == set(EVIDENCE) for row in found)


def test_a_model_whose_layers_search_apart_is_refused() -> None:
    per_layer = tiny.tiny_model("llama", "per_layer")
    per_layer.tokenizer = tiny.byte_tokenizer()
    with pytest.raises(InputError, match="its layers do not share what they retrieve"):
        check_calibratable(per_layer)
    model: MPlusModel = tiny.tiny_model("llama", "shared")
    with pytest.raises(InputError, match="it has no tokenizer"):
        check_calibratable(model)
