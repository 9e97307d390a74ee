"""Writing systems: words and signs of every script, and the comparison of spellings.

Properties of signs are Unicode's, through the library regex. Knows no tokenizer, no language and no model. Where a script has no spaces each
sign (grapheme cluster) is a word of its own, as the Chinese and Korean evaluations have it (CMRC, DRCD, KorQuAD); a run of katakana is one
word. No dictionary cuts Thai, Chinese or Japanese words apart, so that a sequence of signs is found inside a longer word too.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import regex

UNSPACED: Final = (
    r"\p{Han}\p{Hiragana}\p{Bopomofo}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Yi}\p{Javanese}\p{Balinese}"
    r"\p{Tai_Tham}\p{Tai_Le}\p{New_Tai_Lue}\p{Tai_Viet}\p{Nushu}\p{Tangut}"
)
"""Scripts without spaces between words; Hangul has them, but its particles are written onto the words."""

_KATAKANA: Final = r"\p{Katakana}ー"
_EMOJI: Final = r"[\p{Emoji_Presentation}\p{Extended_Pictographic}--[©®™]]"
_LETTERS: Final = rf"[[\p{{L}}\p{{N}}\p{{M}}_]--[{UNSPACED}{_KATAKANA}]]"
_V1: Final = regex.VERSION1
_WORD: Final = regex.compile(rf"(?=[{_EMOJI}[{UNSPACED}]--\p{{P}}])\X|[{_KATAKANA}]+|[^\s{UNSPACED}{_KATAKANA}{_EMOJI}]+", _V1)
_UNSPACED: Final = regex.compile(rf"[{UNSPACED}]", _V1)
_IS_KATAKANA: Final = regex.compile(rf"[{_KATAKANA}]", _V1)
_BETWEEN_SIGNS: Final = regex.compile(rf"(?<=[{UNSPACED}])\s+(?=[{UNSPACED}])", _V1)
_INVISIBLE: Final = regex.compile(r"[[\p{Cf}\p{Default_Ignorable_Code_Point}\p{Cc}]--\s]", _V1)
_POINTS: Final = regex.compile(r"[[\p{Arabic}\p{Hebrew}\p{Inherited}]&&\p{Mn}&&[\u0591-\u06ED]]|ـ", _V1)  # vowel points, kashida
_FOREIGN_DIGIT: Final = regex.compile(r"[\p{Nd}--[0-9]]", _V1)
_SEPARATORS: Final = {"٬": ",", "٫": "."}  # between Arabic digits
_CLUSTER: Final = regex.compile(r"\X")
_LOOK_BACK: Final = 64  # signs; longer clusters are nobody's writing


def folded(text: str) -> str:
    """A text as it is compared: compatible forms, cases, digits of all scripts and what nobody sees made one.

    Full-width signs become ordinary, composed and decomposed letters the same, ß is ss, Turkish ı and İ are i, digits are 0 to 9;
    zero-width signs, variation selectors, Arabic and Hebrew vowel points are left out. White space and punctuation stay.
    """
    if text.isascii():
        return str(_INVISIBLE.sub("", text)).lower()
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()
    text = unicodedata.normalize("NFKC", text.replace("i\u0307", "i").replace("ı", "i").replace("−", "-"))
    text = _FOREIGN_DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), _POINTS.sub("", text))
    return str(regex.sub(r"(?<=\d)[٬٫](?=\d)", lambda found: _SEPARATORS[found[0]], text))


def words(text: str) -> list[str]:
    """Split a text at spaces, or sign by sign where a script has none. An emoji is a word."""
    return text.split() if text.isascii() else list(_WORD.findall(text))


def has_unspaced(text: str) -> bool:
    """Tell whether something of a text is of a script without spaces."""
    return _UNSPACED.search(text) is not None


def unspaced(text: str) -> str:
    """The text without white space between signs of scripts that need none."""
    return text if text.isascii() else str(_BETWEEN_SIGNS.sub("", text))


def whole(wanted: str) -> str:
    """A pattern of the library regex (VERSION1) that finds a text where it does not begin or end inside a word or a sign."""
    before = after = rf"{_LETTERS}"
    if _UNSPACED.match(wanted[:1]):
        before = ""
    elif _IS_KATAKANA.match(wanted[:1]):
        before = rf"[{_KATAKANA}]"
    if _UNSPACED.match(wanted[-1:]):
        after = r"\p{M}"
    elif _IS_KATAKANA.match(wanted[-1:]):
        after = rf"[{_KATAKANA}]"
    literal: str = regex.escape(wanted, special_only=True, literal_spaces=True)
    return f"(?<!{before})" * bool(before) + literal + f"(?!{after})"


def place_of(text: str, wanted: str) -> int | None:
    """The first position of a text in another one, as whole words; None if nowhere."""
    found = regex.search(whole(wanted), text, _V1) if wanted else None
    return int(found.start()) if found else None


TERMINAL: Final = r"[[\p{Sentence_Break=STerm}།༎．]--[!?‼‽⁇⁈⁉]]"
"""Signs that end a sentence whether or not a space follows; ``. ! ? …`` need one."""

CLOSING: Final = r"[\p{Pe}\p{Pf}\"'“‘]"
"""Signs between the end of a sentence and its space; German and Chinese close with what English opens with."""


def splits_sign(text: str, position: int) -> bool:
    """Tell whether a position is inside one sign as a reader sees it (a letter with its marks, an emoji of several characters)."""
    if not 0 < position < len(text):
        return False
    if text[position].isascii():
        return text[position - 1 : position + 1] == "\r\n"
    start = max(0, position - _LOOK_BACK)
    while (
        start and not text[start].isascii() and position - start < 2 * _LOOK_BACK
    ):  # a flag's halves are counted from where they begin
        start -= 1
    return all(found.start() != position for found in _CLUSTER.finditer(text, start, position + _LOOK_BACK))
