"""Running text cut into sentences, in every writing system. Knows neither tokens nor models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import regex

from mplus.text.writing_systems import CLOSING, TERMINAL, splits_sign

_LONGEST_SENTENCE_CHARS: Final = 600
_LINE_END: Final = r"(?>\r\n|[\n\r])"
_SENTENCE_END: Final = regex.compile(
    rf"[.!?…‼‽⁇⁈⁉]+(?:[\u00a0\u202f]?{CLOSING})*\s+(?=[^\sa-z])|{TERMINAL}+[\p{{Pe}}\p{{Pf}}\"']*\s*"
    rf"|{_LINE_END}[ \t]*{_LINE_END}\s*|\u2029\s*",
    regex.VERSION1,
)
_CLAUSE: Final = "、，；：،؛"
_ABBREVIATION: Final = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|Mr|Mrs|Ms|Dr|St|No)|\b[A-Z])\.\s+$")


def sentences(text: str) -> list[str]:
    """Cut text after sentence and paragraph ends; the parts, joined, are the text again.

    White space stays with the sentence before it. What runs on for more than 600 characters is cut
    at a line end, else between words, else behind a comma, and never between a letter and its marks.
    """
    parts: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATION.search(text, max(start, match.start() - 6), match.end()) and "\n\n" not in match[0]:
            continue
        parts.append(text[start : match.end()])
        start = match.end()
    parts.append(text[start:])
    return [piece for part in parts for piece in _bounded(part)]


def _bounded(sentence: str) -> Iterator[str]:
    """Pieces of at most ``_LONGEST_SENTENCE_CHARS`` characters."""
    while len(sentence) > _LONGEST_SENTENCE_CHARS:
        window = sentence[:_LONGEST_SENTENCE_CHARS]
        cut = max(window.rfind("\n"), 0) or max(window.rfind(" "), 0) or max(map(window.rfind, _CLAUSE)) or len(window) - 1
        cut = len(window) - 1 if cut < 1 else cut
        while cut and splits_sign(sentence, cut + 1):
            cut -= 1
        yield sentence[: cut + 1]
        sentence = sentence[cut + 1 :]
    if sentence:
        yield sentence
