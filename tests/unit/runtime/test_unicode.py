"""Laws of text as it comes in: whatever a str holds, what is made of it can be encoded."""

from __future__ import annotations

import pytest

from mplus.runtime.unicode import well_formed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain", "plain"),
        ("naïve 😀 北京 \x00", "naïve 😀 北京 \x00"),
        ("half \ud83d of", "half \ufffd of"),
        ("half \ude00 of", "half \ufffd of"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("b\udcff.txt", "b\ufffd.txt"),
        ("end\ud83d", "end\ufffd"),
        ("\ud83d\ud83d\ude00😀", "\ufffd😀😀"),
        ("", ""),
    ],
)
def test_text_becomes_encodable_and_well_formed_text_stays(given: str, expected: str) -> None:
    assert well_formed(given) == expected
    assert well_formed(given).encode().decode() == expected


def test_well_formed_text_is_the_same_object() -> None:
    text = "naïve 😀" * 10
    assert well_formed(text) is text
