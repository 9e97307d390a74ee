"""Laws of streams: facts stand where they were wanted, between sentences, and one statement answers each question."""

from __future__ import annotations

import logging
import re

import pytest

from mplus.corpus.stream import Stream, build_stream
from mplus.errors import EmptyTextError, InputError
from mplus.text.sentences import sentences

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
