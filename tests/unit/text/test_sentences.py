"""Laws of sentences: joined they are the text, they end where a writing system ends them, none is too long."""

from __future__ import annotations

import pytest

from mplus.text.sentences import sentences


@pytest.mark.parametrize(
    "text",
    [
        'One. Two! "Three?" Four... five.\n\nSix',
        "e.g. Python, i.e. Guido. Dr. Jones came. J. Smith too.",
        "no end at all " * 500,
        "x" * 5000,
        "一句话。另一句！第三句",
        "漢" * 599 + "é" * 3 + "e\u0301" * 700,
        "One.\r\n\r\nTwo.\r\rThree",
        "  \n\n leading. Then",
        "",
    ],
)
def test_sentences_joined_are_the_text(text: str) -> None:
    assert "".join(sentences(text)) == text
    assert all(len(sentence) <= 600 or " " not in sentence for sentence in sentences(text))


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("他来了。“真的吗？”他问。", ["他来了。", "“真的吗？”", "他问。"]),
        ("वह आया। वह गया।", ["वह आया। ", "वह गया।"]),
        ("هل كان؟ نعم.", ["هل كان؟ ", "نعم."]),
        ("Er sagte: „Ja.“ Dann ging er.", ["Er sagte: „Ja.“ ", "Dann ging er."]),
        ("One.\r\rTwo", ["One.\r\r", "Two"]),
        ("漢" * 500 + "，" + "字" * 300, ["漢" * 500 + "，", "字" * 300]),
        ("x" * 599 + "e\u0301", ["x" * 599, "e\u0301"]),
    ],
)
def test_sentences_of_every_script_end_at_their_own_signs(text: str, cut: list[str]) -> None:
    assert sentences(text) == cut


def test_sentences_end_after_full_stops_and_paragraphs_but_not_after_abbreviations() -> None:
    assert sentences("One is e.g. Two. Three is here!\n\nHeading\n\nFour") == [
        "One is e.g. Two. ",
        "Three is here!\n\n",
        "Heading\n\n",
        "Four",
    ]
