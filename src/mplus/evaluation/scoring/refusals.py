"""How well confidences tell questions that a memory answers from those that it does not. Knows confidences and labels, no model."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final

from mplus.errors import InputError
from mplus.evaluation.scoring.text_match import wilson_interval

_BINS: Final = 10
_RESAMPLES: Final = 1000
WRONGLY: Final = 0.05
"""Share of the answers that memory gives right and that may be refused."""
MINIMA: Final = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A question with the confidence of its answer.

    Attributes:
        kind: of question, as ``mplus.corpus.absent`` names them.
        is_present: whether the memory holds the answer.
        is_right: whether the answer was right.
    """

    kind: str
    is_present: bool
    is_right: bool
    confidence: float


@dataclass(frozen=True, kw_only=True)
class RefusalPoint:
    """Shares that are refused at one minimum confidence.

    Attributes:
        absent: of the questions that the memory does not answer.
        present: of those that it answers.
        right: of those that were answered right.
    """

    min_confidence: float
    absent: float
    present: float
    right: float


def area(judged: Sequence[Judged], *, right_only: bool = False) -> float:
    """The chance that a present question has a higher confidence than an absent one (area under the ROC curve).

    Args:
        right_only: of the present ones those that were answered right.
    """
    absent = sorted(one.confidence for one in judged if not one.is_present)
    present = [one.confidence for one in judged if one.is_present and (one.is_right or not right_only)]
    if not absent or not present:
        raise InputError("an area needs questions with and without an answer in memory; give some of both")
    below = sum(bisect_left(absent, one) + bisect_right(absent, one) for one in present)
    return below / (2 * len(absent) * len(present))


def calibration_error(judged: Sequence[Judged]) -> float:
    """The mean difference between confidence and share of present ones, over ten bins of equal width, by their sizes."""
    total = 0.0
    for number in range(_BINS):
        held = [one for one in judged if min(int(one.confidence * _BINS), _BINS - 1) == number]
        total += abs(sum(one.confidence for one in held) - sum(one.is_present for one in held))
    return total / len(judged)


def refused(judged: Sequence[Judged], min_confidence: float) -> RefusalPoint:
    """The shares that one minimum refuses."""

    def share(chosen: Callable[[Judged], bool]) -> float:
        held = [one for one in judged if chosen(one)]
        return sum(one.confidence < min_confidence for one in held) / max(1, len(held))

    return RefusalPoint(
        min_confidence=min_confidence,
        absent=share(lambda one: not one.is_present),
        present=share(lambda one: one.is_present),
        right=share(lambda one: one.is_present and one.is_right),
    )


def largest_minimum(judged: Sequence[Judged], wrongly: float = WRONGLY) -> RefusalPoint:
    """The refusals at the largest minimum that refuses at most a share of what was answered right."""
    right = sorted(one.confidence for one in judged if one.is_present and one.is_right)
    if not right:
        raise InputError("nothing was answered right, so no minimum can be chosen; train the model first")
    return refused(judged, right[int(wrongly * len(right))])


def report(seeds: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    """Everything that is told of the confidences of several seeds, as plain values; intervals are of 95 %."""
    judged = [one for seed in seeds for one in seed]
    at = largest_minimum(judged)
    absent = [one for one in judged if not one.is_present]
    kinds = sorted({one.kind for one in judged})
    return {
        "questions": len(judged),
        "absent": len(absent),
        "right": sum(one.is_present and one.is_right for one in judged),
        "area": area(judged),
        "area_interval": _interval(judged, area),
        "area_of_right": area(judged, right_only=True),
        "area_of_right_interval": _interval(judged, lambda some: area(some, right_only=True)),
        "area_by_seed": [area(seed) for seed in seeds],
        "area_of_right_by_seed": [area(seed, right_only=True) for seed in seeds],
        "calibration_error": calibration_error(judged),
        "at_most_wrongly": {**asdict(at), "absent_interval": wilson_interval(at.absent * len(absent), len(absent))},
        "by_kind": {kind: _of_kind([one for one in judged if one.kind == kind], at.min_confidence) for kind in kinds},
        "curve": [asdict(refused(judged, least)) for least in MINIMA],
    }


def _of_kind(judged: Sequence[Judged], least: float) -> dict[str, Any]:
    at, is_present = refused(judged, least), judged[0].is_present
    counted = {"right": sum(one.is_right for one in judged), "right_refused": at.right} if is_present else {}
    return {"questions": len(judged), "refused": at.present if is_present else at.absent, **counted}


def _interval(judged: Sequence[Judged], measure: Callable[[Sequence[Judged]], float]) -> tuple[float, float]:
    """The middle 95 % of a measure over resampled questions; present and absent ones are resampled apart."""
    rng, values = Random("mplus refusals"), []
    groups = [[one for one in judged if one.is_present is present] for present in (True, False)]
    for _ in range(_RESAMPLES):
        values.append(measure([one for group in groups for one in rng.choices(group, k=len(group))]))
    values.sort()
    return values[int(0.025 * _RESAMPLES)], values[int(0.975 * _RESAMPLES)]
