"""Laws of a calibration: a logistic model, read from plain values, that refuses what is none."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mplus.errors import InputError
from mplus.settings.calibration import Calibration, check_calibrated, checked_confidence


def test_confidence_is_the_logistic_of_the_weighted_evidence() -> None:
    calibration = Calibration(bias=-1.0, weights={"match": 2.0, "missing": -0.5})
    found = calibration.confidence({"match": 0.75, "missing": 3.0, "words": 9.0})
    assert found == pytest.approx(1 / (1 + math.exp(-(-1.0 + 1.5 - 1.5))))


@pytest.mark.parametrize("bias", [-1e9, 1e9])
def test_confidence_stays_a_share_whatever_the_evidence(bias: float) -> None:
    assert 0.0 <= Calibration(bias=bias, weights={"match": 1.0}).confidence({"match": 1.0}) <= 1.0


def test_calibration_goes_through_plain_values() -> None:
    calibration = Calibration(bias=0.5, weights={"match": 1.25})
    assert Calibration.of_json(calibration.model_dump()) == calibration


@pytest.mark.parametrize(
    "stored",
    [
        3,
        {"bias": 1.0},
        {"bias": "1", "weights": {"match": 1.0}},
        {"bias": float("nan"), "weights": {"match": 1.0}},
        {"bias": 1.0, "weights": {}},
    ],
)
def test_what_is_no_calibration_is_refused(stored: Any) -> None:
    with pytest.raises(InputError, match="^calibration: "):
        Calibration.of_json(stored)


@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan"), True, "0.5", None])
def test_a_minimum_is_a_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(InputError, match=r"min_confidence is .*, expected a number from 0 \(answer always\) to 1"):
        checked_confidence(value)
    assert checked_confidence(1) == 1.0


def test_a_model_without_calibration_is_told_how_to_fit_one() -> None:
    with pytest.raises(InputError, match="mplus calibrate MODEL --out DIR"):
        check_calibrated(None)
