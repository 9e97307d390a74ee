"""Laws of the scores of refusals: areas, curve and calibration error are those of their definitions."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random

import pytest

from mplus.errors import InputError
from mplus.evaluation.report.refusal_picture import draw_refusals
from mplus.evaluation.scoring.refusals import Judged, area, calibration_error, largest_minimum, refused, report


def judged(present: list[float], absent: list[float], *, right: int | None = None) -> list[Judged]:
    """Questions with these confidences; the first `right` of those that are present are answered right."""
    count = len(present) if right is None else right
    found = [Judged(kind="fact", is_present=True, is_right=number < count, confidence=one) for number, one in enumerate(present)]
    return found + [Judged(kind="other", is_present=False, is_right=False, confidence=one) for one in absent]


def noisy(seed: int, gain: float) -> list[Judged]:
    rng = Random(seed)
    return judged(
        [min(1.0, rng.random() + gain) for _ in range(60)], [max(0.0, rng.random() - gain) for _ in range(60)], right=40
    )


def test_area_is_the_share_of_pairs_in_order() -> None:
    present, absent = [0.9, 0.5, 0.5, 0.2], [0.5, 0.1, 0.3]
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(present, absent)]
    assert area(judged(present, absent)) == pytest.approx(sum(pairs) / len(pairs))
    assert area(judged([0.9, 0.1], [0.5], right=1), right_only=True) == 1.0


def test_refusals_are_shares_below_the_minimum() -> None:
    found = refused(judged([0.9, 0.4, 0.6, 0.1], [0.2, 0.5, 0.7, 0.3], right=2), 0.5)
    assert (found.absent, found.present, found.right) == (0.5, 0.5, 0.5)


def test_the_largest_minimum_refuses_no_more_right_answers_than_it_may() -> None:
    rows = noisy(1, 0.3)
    found = largest_minimum(rows, 0.05)
    assert found.right <= 0.05 < refused(rows, found.min_confidence + 0.1).right
    assert found.absent == refused(rows, found.min_confidence).absent > 0.3


def test_a_calibrated_confidence_has_a_small_error() -> None:
    rng = Random(0)
    sure = [Judged(kind="", is_present=rng.random() < share, is_right=False, confidence=share) for share in [0.25, 0.65] * 2000]
    assert calibration_error(sure) < 0.03
    assert calibration_error(judged([0.1] * 50, [0.1] * 50)) == pytest.approx(0.4)


def test_report_tells_every_kind_and_seed() -> None:
    found = report([noisy(1, 0.3), noisy(2, 0.3)])
    assert (found["questions"], found["absent"], found["right"]) == (240, 120, 80)
    assert set(found["by_kind"]) == {"fact", "other"} and len(found["area_by_seed"]) == 2
    low, high = found["area_interval"]
    assert low < found["area"] < high
    shares = [point["absent"] for point in found["curve"]]
    assert shares == sorted(shares)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InputError, match="with and without an answer in memory"):
        area(judged([0.5], []))
    with pytest.raises(InputError, match="nothing was answered right"):
        largest_minimum(judged([0.5], [0.5], right=0))


def test_the_picture_is_stored(tmp_path: Path) -> None:
    draw_refusals([noisy(1, 0.3), noisy(2, 0.3)], tmp_path / "refusals.png", title="a model")
    assert (tmp_path / "refusals.png").read_bytes().startswith(b"\x89PNG")
