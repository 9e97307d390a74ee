"""Laws of streams: facts stand where they were wanted, between sentences, and one statement answers each question."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from mplus.corpus.stream import Stream, build_stream
from mplus.corpus.text import python_text, read_text, sentences
from mplus.errors import EmptyTextError, EncodingError, InputError

DISTANCES = (1000, 2000, 4000, 8000)


def count_words(text: str) -> int:
    return len(text.split())


def plain_haystack(words: int = 30_000, sentence_words: int = 20) -> str:
    """Numbered sentences in paragraphs of five."""
    made = []
    for number in range(words // sentence_words):
        made.append(f"Sentence {number} " + "goes on " * ((sentence_words - 3) // 2) + "here.")
        made.append("\n\n" if number % 5 == 4 else " ")
    return "".join(made)


def stream_of(seed: int = 0, **changes: object) -> Stream:
    settings: dict[str, object] = {"tokens": 9000, "distances": DISTANCES, "questions": 16, "seed": seed, **changes}
    return build_stream(plain_haystack(), count_words, **settings)  # type: ignore[arg-type]


def test_facts_stand_within_tolerance_and_tokens_back_is_what_one_counts() -> None:
    stream = stream_of()
    text = "".join(stream.pieces)
    for planted in stream.planted:
        tolerance = 0.25 if planted.distance <= 1000 else 0.15
        assert abs(planted.tokens_back - planted.distance) <= tolerance * planted.distance
        after = text[text.index(planted.fact.statement) + len(planted.fact.statement) :]
        assert planted.tokens_back == count_words(after)


def test_every_distance_gets_its_questions_and_the_stream_its_length() -> None:
    stream = stream_of(questions=16)
    assert {d: sum(p.distance == d for p in stream.planted) for d in DISTANCES} == dict.fromkeys(DISTANCES, 16)
    assert 9000 <= stream.tokens < 9500
    assert stream.tokens == sum(map(count_words, stream.pieces))


def test_pieces_are_of_readable_size_and_end_at_sentence_ends() -> None:
    stream = stream_of()
    assert all(re.search(r"[.]\s*$", piece) for piece in stream.pieces)
    sizes = [count_words(piece) for piece in stream.pieces[1:]]
    assert 200 <= sum(sizes) / len(sizes) <= 300 and max(sizes) <= 400


def test_statements_stand_between_sentences_never_inside_one() -> None:
    stream = stream_of()
    text = "".join(stream.pieces)
    haystack_sentences = {sentence.strip() for sentence in sentences(plain_haystack())}
    found = {sentence.strip() for sentence in sentences(text)}
    own = {sentence for sentence in found if sentence.startswith("Sentence ")}
    assert own <= haystack_sentences
    assert len(found - own) >= len(stream.planted) + 9000 // 200 - 2


def test_bystanders_share_subjects_with_asked_facts_and_are_not_asked() -> None:
    stream = stream_of()
    text = "".join(stream.pieces)
    asked = {planted.fact.question for planted in stream.planted}
    assert len(asked) == len(stream.planted)
    subjects = {planted.fact.subject for planted in stream.planted}
    assert sum(text.count(subject) for subject in subjects) > len(stream.planted)


def test_same_seed_same_stream_and_other_seed_another_place_and_other_facts() -> None:
    assert stream_of(4) == stream_of(4)
    one, other = stream_of(4), stream_of(5)
    assert one.pieces[0] != other.pieces[0]
    assert not {p.fact for p in one.planted} & {p.fact for p in other.planted}


def test_short_haystack_is_repeated_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stream = build_stream(plain_haystack(3000), count_words, tokens=9000, distances=[1000, 8000], questions=4, seed=0)
    assert stream.tokens >= 9000
    assert "repeated" in caplog.text


def test_no_room_for_all_questions_near_the_end_asks_fewer_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stream = stream_of(questions=64)
    asked = [sum(p.distance == d for p in stream.planted) for d in DISTANCES]
    assert 16 <= asked[0] < asked[1] < 64 and asked[3] == 64
    assert "room for" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 8000}, "cannot hold facts 8000 tokens back"),
        ({"questions": 0}, "questions"),
        ({"distances": []}, "distances"),
        ({"distances": [5]}, "distances"),
        ({"fact_every": 3}, "fact_every"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stream_of(**changes)  # type: ignore[arg-type]


def test_too_short_and_empty_haystacks_are_refused() -> None:
    with pytest.raises(InputError, match="expected at least 2000"):
        build_stream(plain_haystack(500), count_words, tokens=9000, distances=[1000], questions=4, seed=0)
    with pytest.raises(EmptyTextError):
        build_stream(" \n", count_words, tokens=9000, distances=[1000], questions=4, seed=0)


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


def test_python_text_is_long_prose_in_paragraphs() -> None:
    text = python_text()
    assert len(text) > 1_250_000  # more than 300,000 tokens
    paragraphs = text.split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)
    assert ">>>" not in text and "::=" not in text
    assert python_text() == text


def test_read_text_names_what_is_wrong(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_bytes("\ufeffGrüße.\r\nZwei".encode())
    assert read_text(good) == "Grüße.\nZwei"
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(EncodingError, match="byte 2 is 0xfc"):
        read_text(latin)
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n")
    with pytest.raises(EmptyTextError, match="white space"):
        read_text(blank)
    with pytest.raises(InputError, match="there is no file"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(InputError, match="is a directory"):
        read_text(tmp_path)
