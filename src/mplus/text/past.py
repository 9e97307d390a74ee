"""Whether a question asks for what was, not for what is. Knows English words, no tokenizer and no memory."""

from __future__ import annotations

import re
from typing import Final

_MONTHS: Final = "january|february|march|april|may|june|july|august|september|october|november|december"
_SIGNS: Final = re.compile(
    rf"\b(?:before|used? to|at first|at the start|(?:in|at) the beginning|originally|initially|previous(?:ly)?|former(?:ly)?|earlier"
    rf"|back then|in the past|ago|yesterday|no longer"
    rf"|(?:in|during|since|until|by) (?:early |late |mid-?)?(?:{_MONTHS}|(?:1[5-9]|20)\d\d)"
    rf"|last (?:week|month|year|spring|summer|autumn|fall|winter|{_MONTHS}))\b",
    re.IGNORECASE,
)


def asks_for_the_past(question: str) -> bool:
    """Tell whether a question has a word that asks for an earlier state: before, used to, at first, in March.

    A question that has one and means the present loses nothing but the newest standing beside it.
    """
    return _SIGNS.search(question) is not None
