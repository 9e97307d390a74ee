"""When an answer is right, and how sure a share of right answers is. Knows nothing of models."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Final

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


def wilson_interval(right: int, asked: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson (1927), eq. for the score test; (0, 1) when nothing was asked."""
    if asked == 0:
        return 0.0, 1.0
    share, z2 = right / asked, _Z_95**2
    middle = (share + z2 / (2 * asked)) / (1 + z2 / asked)
    half = _Z_95 / (1 + z2 / asked) * math.sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, middle - half), min(1.0, middle + half)
