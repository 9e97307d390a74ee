"""When an answer is right, and how sure a share of right answers is. Knows nothing of models."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

_PUNCTUATION: Final = frozenset(string.punctuation + "–—‐‑“”‘’…«»")
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_Z_95: Final = 1.959964  # two-sided 95 % of the normal distribution


def contains_value(answer: str, value: str) -> bool:
    """Whether an answer contains a value as whole words and whole numbers, whatever the case.

    "Seville." contains "seville"; "1234", "12:30" and "12.5" do not contain "12"; "1,234" contains "1234".
    """
    wanted = re.escape(_normalised(value))
    return re.search(rf"(?<!\w)(?<!\d[.,:]){wanted}(?!\w)(?![.,:]\d)", _normalised(answer)) is not None


def _normalised(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)  # thousands
    text = re.sub(r"[-‐‑–—_*`\"“”]", " ", text)
    return " ".join(text.split())


def squad_normalised(text: str) -> str:
    """Text as SQuAD's evaluation compares it: lower case, without punctuation and articles, single spaces."""
    lowered = "".join(sign for sign in unicodedata.normalize("NFKC", text).lower() if sign not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", lowered).split())


def contains_answer(prediction: str, answers: Iterable[str]) -> bool:
    """Whether a prediction contains one of the answers, both normalised as by SQuAD, as whole words."""
    said = f" {squad_normalised(prediction)} "
    return any(wanted and f" {wanted} " in said for wanted in map(squad_normalised, answers))


def clustered_interval(right_by_cluster: Mapping[str, Sequence[bool]]) -> tuple[float, float]:
    """The 95 % interval of a share when answers come in clusters (questions about one passage are not independent).

    Wilson's interval at the effective number of answers, n / design effect; the design effect is the variance of the share
    by clusters over that of independent answers, at least 1.
    """
    answers = [right for cluster in right_by_cluster.values() for right in cluster]
    clusters, asked, right = len(right_by_cluster), len(answers), sum(answers)
    share = right / asked if asked else 0.0
    independent = share * (1 - share) / asked if asked else 0.0
    if clusters < 2 or clusters == asked or independent == 0:
        return wilson_interval(right, asked)
    off = sum((sum(cluster) - share * len(cluster)) ** 2 for cluster in right_by_cluster.values())
    by_clusters = clusters / (clusters - 1) * off / asked**2
    effect = max(1.0, by_clusters / independent)
    return wilson_interval(right / effect, asked / effect)


def wilson_interval(right: float, asked: float) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson (1927), eq. for the score test; (0, 1) when nothing was asked."""
    if asked == 0:
        return 0.0, 1.0
    share, z2 = right / asked, _Z_95**2
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = _Z_95 / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, middle - half), min(1.0, middle + half)
