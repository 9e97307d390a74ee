"""Laws of an answer's text: its pieces are the text, whole characters, up to a stop string."""

from __future__ import annotations

import random

import pytest

from mplus.inference.answer_text import AnswerText
from tests.tiny import byte_tokenizer

TOKENIZER = byte_tokenizer()


def pieces(text: AnswerText, ids: list[int]) -> list[str]:
    out = []
    for token in ids:
        out.append(text.put(token))
        if text.is_stopped:
            break
    return [*out, text.end()]


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


@pytest.mark.parametrize("words", ["plain words", "Grüße, 中文 und 😀!", " \n spaces \n"])
def test_pieces_are_whole_characters_and_together_the_text(words: str) -> None:
    text = AnswerText(TOKENIZER)
    given = pieces(text, ids_of(words))
    assert "".join(given) == text.text == words
    assert not any("\ufffd" in piece for piece in given)
    assert given[0] == words[:1] if words[0].isascii() else True


def test_bytes_that_are_no_character_do_not_hold_the_rest_back() -> None:
    chance = random.Random(1)
    ids = [chance.randrange(256) for _ in range(300)]
    text = AnswerText(TOKENIZER)
    given = pieces(text, ids)
    assert "".join(given) == TOKENIZER.decode(ids)
    assert max(map(len, given)) < 10


def test_the_text_ends_before_a_stop_string_that_lies_across_tokens() -> None:
    text = AnswerText(TOKENIZER, ("END", "stop"))
    given = pieces(text, ids_of("an EN, a sto, then END and more"))
    assert "".join(given) == text.text == "an EN, a sto, then "
    assert text.is_stopped


def test_the_beginning_of_a_stop_string_comes_when_it_is_none() -> None:
    text = AnswerText(TOKENIZER, ("END",))
    assert "".join(pieces(text, ids_of("to the EN"))) == "to the EN"
    assert not text.is_stopped


def test_white_space_around_a_chat_answer_is_left_out() -> None:
    text = AnswerText(TOKENIZER, ("\n\n\n",), strip=True)
    given = pieces(text, ids_of(" \n Anna  Berg \n "))
    assert "".join(given) == text.text == "Anna  Berg"
