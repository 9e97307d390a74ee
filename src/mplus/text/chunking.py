"""Cutting long text into chunks at paragraph or sentence ends, in every script. Knows a tokenizer, nothing of memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import regex

from mplus.text.literal import encoded
from mplus.text.writing_systems import CLOSING, TERMINAL, splits_sign

EARLIEST_SHARE = 0.5  # a chunk is at least half full before a boundary may end it

_LINE_END: Final = r"(?>\r\n|[\n\r\v\f\x85\u2028])"
_V1: Final = regex.VERSION1
PARAGRAPH: Final = regex.compile(rf"(?:{_LINE_END}\s*{_LINE_END}|\u2029)\s*$", _V1)
SENTENCE: Final = regex.compile(
    rf"(?:[.!?…‼‽⁇⁈⁉]|{TERMINAL})(?:[\u00a0\u202f]?{CLOSING})*\s+$|{TERMINAL}[\p{{Pe}}\p{{Pf}}\"']*$", _V1
)
LINE: Final = regex.compile(rf"{_LINE_END}\s*$", _V1)
CLAUSE: Final = regex.compile(r"[、，；：،؛﹐﹑､][\p{Pe}\p{Pf}]*\s*$", _V1)
PHRASE: Final = regex.compile(
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]\s+$", _V1
)  # a space ends a phrase there, and nothing ends a sentence
_RANKS: Final = (PARAGRAPH, SENTENCE, LINE, CLAUSE, PHRASE)
_GOES_ON: Final = regex.compile(rf"\s*(?:{TERMINAL}|[.!?…、，；：،؛\p{{Pe}}\p{{Pf}}])", _V1)
_SEEN: Final = 8  # characters before a place that its patterns look at
_SPACE: Final = 4  # and white space behind it


def cut(tokenizer: Any, text: str, size: int, *, special_tokens: bool = False) -> list[list[int]]:
    """Token ids of `text` in chunks of at most `size` tokens.

    A chunk ends at the last paragraph end in its second half, else at the last sentence end, else at a line end, else (where a script has
    them) at the end of a clause or phrase, else anywhere, but within no character and within no letter and its marks.

    Args:
        special_tokens: see ``literal.encoded``.

    Returns:
        chunks that, joined, are exactly the tokens of `text`.
    """
    ids, offsets = encoded(tokenizer, text, special_tokens=special_tokens)
    places: _Places = _Decoded(tokenizer, ids) if offsets is None else _Offsets(text, offsets)
    chunks, start = [], 0
    while start < len(ids):
        end = start + size
        if end < len(ids):
            end = _boundary(places, start + max(1, int(size * EARLIEST_SHARE)), end)
        chunks.append(ids[start:end])
        start = end
    return chunks


class _Places(Protocol):
    """The text around a place between two tokens."""

    def around(self, end: int) -> tuple[str, str] | None:
        """Some text before and behind the token `end`; None inside a character."""

    def splits_sign(self, end: int) -> bool:
        """Tell whether the place is between a letter and its marks."""


@dataclass(frozen=True)
class _Offsets:
    """BlockTable by the offsets of a fast tokenizer."""

    text: str
    offsets: list[tuple[int, int]]

    def around(self, end: int) -> tuple[str, str] | None:
        upto = self.offsets[end][0]  # white space belongs to the token that follows in most vocabularies
        if upto < self.offsets[end - 1][1]:
            return None
        return self.text[max(0, upto - _SEEN) : upto], self.text[upto : upto + _SEEN]

    def splits_sign(self, end: int) -> bool:
        return splits_sign(self.text, self.offsets[end][0])


@dataclass(frozen=True)
class _Decoded:
    """BlockTable of a tokenizer without offsets, by what the tokens around them say."""

    tokenizer: Any
    ids: list[int]

    def around(self, end: int) -> tuple[str, str] | None:
        first, last = max(0, end - 2 * _SEEN), end + _SEEN
        before, after, whole = self._said(first, end), self._said(end, last), self._said(first, last)
        if "".join((before + after).split()) != "".join(whole.split()):  # bytes of one character on both sides
            return None
        return before, whole[len(before) :] if whole.startswith(before) else after

    def splits_sign(self, end: int) -> bool:
        around = self.around(end)
        return around is None or splits_sign("".join(around), len(around[0]))

    def _said(self, first: int, last: int) -> str:
        kept = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(self.ids[first:last], **kept))


def _boundary(places: _Places, earliest: int, latest: int) -> int:
    best: dict[int, int] = {}
    anywhere = in_sign = 0
    for end in range(latest, earliest - 1, -1):
        around = places.around(end)
        if around is None:
            continue
        in_sign = in_sign or end
        if not anywhere and not places.splits_sign(end):
            anywhere = end
        rank = _rank(*around)
        if rank is not None and rank not in best and not places.splits_sign(end):
            best[rank] = end
            if rank == 0:
                break
    return best[min(best)] if best else anywhere or in_sign or latest


def _rank(before: str, after: str) -> int | None:
    """The best that ends here: 0 a paragraph."""
    spaces = after[:_SPACE]
    ended = before[-_SEEN:] + spaces[: len(spaces) - len(spaces.lstrip())]
    rank = next((rank for rank, pattern in enumerate(_RANKS) if pattern.search(ended)), None)
    if rank in (1, 3) and not ended[-1:].isspace() and _GOES_ON.match(after):
        return None  # its closing quotes and brackets are still to come
    return rank
