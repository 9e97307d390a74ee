"""Comparison of answers as texts, and Wilson's interval of a share of right ones. Knows nothing of models."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable
from typing import Final

import regex

from mplus.text.writing_systems import folded, unspaced, whole, words

_PUNCTUATION: Final = frozenset(string.punctuation + "–—‐‑“”‘’…«»׳״ʼ")
_OTHER_PUNCTUATION: Final = regex.compile(r"\p{P}")
_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_THOUSANDS: Final = re.compile(r"(?<=\d),(?=(?:\d\d,)*\d{3}(?!\d))")  # 1,234,567 and 12,34,567
_SPACES: Final = re.compile(r"[-‐‑–—_*`\"“”„«»「」『』《》【】]")
_Z_95: Final = 1.959964  # two-sided 95 % of the normal distribution


def contains_value(answer: str, value: str) -> bool:
    """Whether an answer contains a value as whole words and whole numbers, whatever the case and the digits.

    "Seville." contains "seville"; "1234", "12:30" and "12.5" do not contain "12"; "1,234" contains "1234"; "他出生在北京市。" contains "北京".
    """
    wanted = _normalised(value)
    if not wanted:
        return False
    pattern = rf"(?<!\d[.,:]){whole(wanted)}(?![.,:]\d)"
    return regex.search(pattern, _normalised(answer), regex.VERSION1) is not None


def _normalised(text: str) -> str:
    text = _SPACES.sub(" ", _THOUSANDS.sub("", folded(text)))
    return unspaced(" ".join(text.split()))


def squad_normalised(text: str) -> str:
    """Text as SQuAD's evaluation compares it: lower case, without punctuation and articles, single spaces between words.

    SQuAD knows English; in other scripts a word is what ``scripts.words`` says, and their punctuation counts as a space.
    """
    return " ".join(words(_ARTICLES.sub(" ", _without_punctuation(text))))


def _without_punctuation(text: str) -> str:
    kept = "".join(sign for sign in folded(text) if sign not in _PUNCTUATION)
    return kept if kept.isascii() else _OTHER_PUNCTUATION.sub(" ", kept)


def compared(text: str, answer: str) -> tuple[str, str]:
    """A text and an answer as they are compared: normalised as by SQuAD, unless nothing would be left of the answer ("A", "?!").

    Returns:
        both, words apart by single spaces; the second is empty only where the answer is.
    """
    if wanted := squad_normalised(answer):
        return squad_normalised(text), wanted
    if wanted := " ".join(words(_without_punctuation(answer))):
        return " ".join(words(_without_punctuation(text))), wanted
    return " ".join(folded(text).split()), " ".join(folded(answer).split())


def equals_answer(prediction: str, answers: Iterable[str]) -> bool:
    """Whether a prediction is one of the answers, both normalised as by SQuAD."""
    return any(said == wanted for said, wanted in (compared(prediction, answer) for answer in answers))


def contains_answer(prediction: str, answers: Iterable[str]) -> bool:
    """Whether a prediction contains one of the answers, both normalised as by SQuAD, as whole words.

    Of an answer that is all articles or punctuation nothing is left to be found; it must be the whole prediction.
    """
    said = f" {squad_normalised(prediction)} "
    for answer in answers:
        wanted = squad_normalised(answer)
        if f" {wanted} " in said if wanted else equals_answer(prediction, [answer]) and bool(answer.strip()):
            return True
    return False


def wilson_interval(right: float, asked: float) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson (1927), eq. for the score test; (0, 1) when nothing was asked."""
    if asked == 0:
        return 0.0, 1.0
    share, z2 = right / asked, _Z_95**2
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = _Z_95 / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, middle - half), min(1.0, middle + half)
