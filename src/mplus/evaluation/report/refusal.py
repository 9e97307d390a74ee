"""Count what a run refused rightly and wrongly, and what earlier messages cost it. Knows samples only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from mplus.evaluation.report.result_log import Sample
from mplus.evaluation.scoring.interval import mean_interval
from mplus.evaluation.scoring.metrics import abstains
from mplus.evaluation.scoring.refusals import MINIMA, Judged, area, refused

_ALONE: Final = "alone"


def refusal_of(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Shares of refusals with their intervals, and the curve over minimum confidences where there are confidences.

    Args:
        samples: of one system, that were asked.

    Returns:
        None where every question has an answer.
    """
    absent = [one for one in samples if one.unanswerable]
    present = [one for one in samples if not one.unanswerable]
    if not absent:
        return None
    made: dict[str, Any] = {"refused": _share(absent, [abstains(one.given) for one in absent])}
    if present:
        made["wrongly_refused"] = _share(present, [abstains(one.given) and not one.right for one in present])
    judged = [
        Judged(kind=one.row, is_present=not one.unanswerable, is_right=one.right, confidence=one.confidence)
        for one in samples
        if one.confidence is not None
    ]
    if len({one.is_present for one in judged}) == 2:
        made |= {"area": round(area(judged), 4), "curve": [asdict(refused(judged, least)) for least in MINIMA]}
    return made


def refusal_sentence(system: str, refusal: dict[str, Any]) -> str:
    """One line about a system."""
    parts = [f"refused {_with_interval(refusal['refused'])} of the questions without an answer"]
    if "wrongly_refused" in refusal:
        parts.append(f"wrongly {_with_interval(refusal['wrongly_refused'])} of the others")
    if "area" in refusal:
        parts.append(f"area of its confidence {refusal['area']:.2f}")
    return f"{system}: {', '.join(parts)}."


def beside_alone(samples: Sequence[Sample]) -> dict[str, dict[str, float]] | None:
    """Of what is right in row ``alone`` (or ``ROW, alone``) the share that is right in the other rows about the same; None without such rows."""
    rows = dict.fromkeys(one.row for one in samples)
    if _ALONE not in rows:
        return None
    right = {(one.row, one.cluster) for one in samples if one.right}
    made: dict[str, dict[str, float]] = {}
    for row in rows:
        if row == _ALONE or row.endswith(f", {_ALONE}"):
            continue
        base = f"{row}, {_ALONE}" if f"{row}, {_ALONE}" in rows else _ALONE
        of = [cluster for in_row, cluster in right if in_row == base]
        made[row] = {"right_alone": len(of), "share": round(sum((row, one) in right for one in of) / max(1, len(of)), 4)}
    return made


def _share(samples: Sequence[Sample], hits: Sequence[bool]) -> dict[str, float]:
    clusters: dict[str, list[float]] = {}
    for one, hit in zip(samples, hits, strict=True):
        clusters.setdefault(one.cluster, []).append(float(hit))
    low, high = mean_interval(list(clusters.values()))
    return {"share": round(sum(hits) / len(hits), 4), "low": round(low, 4), "high": round(high, 4), "questions": len(hits)}


def _with_interval(share: dict[str, float]) -> str:
    return f"{share['share']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"
