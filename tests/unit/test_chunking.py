"""Laws of cutting: nothing lost, nothing too long, ends where a reader would pause."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerFast

from mplus.chunking import EARLIEST_SHARE, cut
from tests.tiny import byte_tokenizer

SIZE = 40


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


def random_text(seed: int) -> str:
    chance = random.Random(seed)
    pieces = [
        "word",
        "a",
        "I",
        "Zürich",
        "第二章",
        "3.14",
        ".",
        "! ",
        "? ",
        ". ",
        ".\n",
        "\n\n",
        "\n \n",
        " ",
        "  ",
        "…",
        ".” ",
        '."',
        "\t",
        "\r\n",
    ]
    return "".join(chance.choice(pieces) for _ in range(300))


@pytest.mark.parametrize("seed", range(20))
def test_joined_chunks_are_the_tokens_of_the_text(tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    text = random_text(seed)
    chunks = cut(tokenizer, text, SIZE)
    assert [token for chunk in chunks for token in chunk] == tokenizer(text)["input_ids"]
    assert all(0 < len(chunk) <= SIZE for chunk in chunks)
    assert all(len(chunk) >= SIZE * EARLIEST_SHARE for chunk in chunks[:-1])


def ends(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    return [str(tokenizer.decode(chunk)) for chunk in cut(tokenizer, text, SIZE)]


def test_chunk_ends_at_a_paragraph_before_any_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "It was long ago that she left.\n\nThe end. Then more text follows here without a pause"
    assert ends(tokenizer, text)[0].rstrip() == "It was long ago that she left."


def test_chunk_ends_at_the_last_sentence_that_fits(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "One two. Three four five. Six seven. Eight nine ten eleven twelve thirteen"
    assert ends(tokenizer, text)[0].rstrip() == "One two. Three four five. Six seven."


def test_closing_quotes_belong_to_their_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "He said: 'It is the wrong one.' But she went on to say more and more and more"
    assert ends(tokenizer, text)[0].rstrip() == "He said: 'It is the wrong one.'"


def test_full_stop_inside_a_number_ends_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "the value was close to 3.1415926535897932384626433832795028841971"
    assert len(ends(tokenizer, text)[0]) == SIZE


def test_chunk_ends_at_a_line_where_there_is_no_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "first item of a long list\nsecond item of the long list\nthird item"
    assert ends(tokenizer, text)[0].rstrip() == "first item of a long list"


def test_chunk_without_any_boundary_is_full(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [len(part) for part in ends(tokenizer, "x" * 100)] == [SIZE, SIZE, 20]


def test_text_that_fits_is_one_chunk(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(cut(tokenizer, "Short. Very short.\n\nYes.", SIZE)) == 1


def test_text_of_exactly_one_chunk_is_one_chunk(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(cut(tokenizer, "a. " * 13 + "b", SIZE)) == 1


def test_slow_tokenizer_cuts_anywhere() -> None:
    class Slow:
        is_fast = False

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": list(range(len(text)))}

    chunks = cut(Slow(), "One. Two. " * 9, SIZE)
    assert [len(chunk) for chunk in chunks] == [40, 40, 10]
    assert [token for chunk in chunks for token in chunk] == list(range(90))
