"""Tokenised text that lost its apostrophes, as running text again. Knows no file."""

from __future__ import annotations

import re
from typing import Final

_LOST: Final = re.compile(r"(?<=\w) (s|t|re|ve|ll|d|m)(?= |$)")
_NOT: Final = re.compile(r"(?<=\w) (?=n't\b)")
_SPACED: Final = re.compile(r" ([.,;:!?)])")


def repaired(text: str) -> str:
    """Text with its marks at the words before them ("mother s jeep ." is "mother's jeep."); what cannot be told stays as it is."""
    return _SPACED.sub(r"\1", _NOT.sub("", _LOST.sub(r"'\1", text)))
