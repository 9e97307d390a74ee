"""Intervals of a mean score: 95 %, by bootstrap over clusters. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from mplus.evaluation.scoring.text_match import wilson_interval

RESAMPLES: Final = 2000
_TAILS: Final = (2.5, 97.5)


def mean_interval(
    clusters: Sequence[Sequence[float]], *, weights: Sequence[Sequence[float]] | None = None
) -> tuple[float, float]:
    """The middle 95 % of means of clusters drawn with replacement (questions about one text are not independent; texts are).

    Where all scores are 0, or all 1, or of one cluster, drawing again tells nothing: Wilson's interval then, every cluster one answer.

    Args:
        clusters: scores by cluster, at least one in all; from 0 to 1 unless they are weighted.
        weights: of each score; None: all alike. One cluster has no interval then: its mean stands for both ends.
    """
    flat = [score for cluster in clusters for score in cluster]
    if weights is None and (len(clusters) == 1 or set(flat) in ({0.0}, {1.0})):
        return wilson_interval(sum(flat) / len(flat) * len(clusters), len(clusters))
    given = weights if weights is not None else [[1.0] * len(cluster) for cluster in clusters]
    sums = np.array([sum(w * s for w, s in zip(ws, cluster, strict=True)) for ws, cluster in zip(given, clusters, strict=True)])
    masses = np.array([sum(ws) for ws in given], dtype=float)
    drawn = np.random.default_rng(0).integers(0, len(clusters), (RESAMPLES, len(clusters)))
    means = sums[drawn].sum(1) / masses[drawn].sum(1)
    low, high = np.percentile(means, _TAILS)
    return float(low), float(high)
