"""Laws of cutting: nothing lost, nothing too long, ends where a reader would pause."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerFast

from mplus.text.chunking import EARLIEST_SHARE, cut
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


SENTENCES = {
    "Chinese": ("港口小镇有两个市场。每逢星期二，渔民出售渔获！只有面包师还在叫卖吗？", "。！？"),
    "Japanese": ("彼女は「今日は早いですね。」と言った。港町には市場があります。", "。」"),
    "full width": ("これは文である．次の文である．", "．"),
    "Hindi": ("बंदरगाह शहर में दो बाज़ार थे। हर मंगलवार को मछली बेचते थे। ", "।"),
    "Arabic": ("هل كان في المدينة سوقان؟ كان الصيادون يبيعون صيدهم. ", "؟."),
    "Armenian": ("Նա ծնվել է Երևանում։ Նա ապրում է այնտեղ։ ", "։"),
    "Khmer": ("គាត់កើតនៅភ្នំពេញ។គាត់រស់នៅទីនោះ។", "។"),
    "Burmese": ("သူသည်ရန်ကုန်တွင်မွေးသည်။သူထိုတွင်နေသည်။", "။"),
    "German": ("Er sagte: „Ich gehe.“ Sie sagte: ‚Gut.‘ ", "“‘"),
    "French": ("« Bonjour\u202f!\u202f» dit-il. Elle partit. ", "!».\u202f"),
    "English": ("The town had two markets. By nine they left! ", ".!"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_chunks_of_every_script_end_where_sentences_end(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    sentence, signs = SENTENCES[name]
    chunks = [str(tokenizer.decode(chunk)) for chunk in cut(tokenizer, sentence * 8, 2 * len(sentence.encode()))]
    assert len(chunks) >= 4 and all(chunk.rstrip()[-1] in signs for chunk in chunks)
    assert "".join(chunks) == sentence * 8


def test_closing_quotes_and_brackets_stay_with_their_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    assert ends(tokenizer, "他说：『我们走吧。』然后他就走了然后他就走了")[0] == "他说：『我们走吧。』"
    assert ends(tokenizer, "(我们现在走吧？！)然后他就走了然后他就走了")[0] == "(我们现在走吧？！)"


def test_scripts_without_sentence_ends_end_at_clauses_or_phrases(tokenizer: PreTrainedTokenizerFast) -> None:
    assert ends(tokenizer, "我们走了很久，然后他又走了很久很久")[0] == "我们走了很久，"
    assert ends(tokenizer, "เขาเกิดที่ ไทยและอยู่ที่นั่น")[0].rstrip() == "เขาเกิดที่"


SIGNS = ["漢", "é", "e\u0301", "नि", "กำ", "🎉", "👨\u200d👩\u200d👧", "🇩🇪", "한", "\u1112\u1161\u11ab", "\r\n"]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("before", ["", "x", "xyz"])
def test_no_chunk_begins_inside_a_sign(tokenizer: PreTrainedTokenizerFast, sign: str, before: str) -> None:
    text = before + sign * 60
    chunks = cut(tokenizer, text, SIZE)
    assert [token for chunk in chunks for token in chunk] == tokenizer(text)["input_ids"]
    pieces = [str(tokenizer.decode(chunk)) for chunk in chunks]
    assert "".join(pieces) == text and all(len(piece.removeprefix(before)) % len(sign) == 0 for piece in pieces)


def test_a_letter_with_more_marks_than_a_chunk_holds_is_cut_between_characters(tokenizer: PreTrainedTokenizerFast) -> None:
    chunks = cut(tokenizer, "e" + "\u0301" * 200, SIZE)
    assert len(chunks) > 10 and "".join(str(tokenizer.decode(chunk)) for chunk in chunks) == "e" + "\u0301" * 200


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\u2028"])
def test_line_ends_of_every_kind_end_chunks(tokenizer: PreTrainedTokenizerFast, line_end: str) -> None:
    text = line_end.join(["first of a list", "second of a list", "third of a list"] * 3)
    assert all(part.endswith((" list", line_end)) for part in ends(tokenizer, text))
    text = f"One two. Three four five.{line_end}{line_end}Six seven. Eight nine ten eleven twelve"
    assert ends(tokenizer, text)[0].rstrip() == "One two. Three four five."


class Slow:
    """A tokenizer that does not tell where its tokens stand."""

    is_fast = False

    def __init__(self, fast: PreTrainedTokenizerFast) -> None:
        self._fast = fast

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": self._fast(text, add_special_tokens=add_special_tokens)["input_ids"]}

    def decode(self, ids: list[int], **kept: bool) -> str:
        return str(self._fast.decode(ids, **kept))


@pytest.mark.parametrize(
    "text", ["One. Two three. " * 9, *(sentence * 8 for sentence, _ in SENTENCES.values()), "漢" * 60, "🎉" * 40, "x" * 100]
)
def test_a_slow_tokenizer_cuts_where_a_fast_one_does(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert cut(Slow(tokenizer), text, 90) == cut(tokenizer, text, 90)


def test_a_slow_tokenizer_that_drops_bytes_cuts_within_no_character() -> None:
    from transformers import ByT5Tokenizer

    slow = ByT5Tokenizer()
    text = "漢字" * 50
    chunks = cut(slow, text, SIZE)
    assert "".join(str(slow.decode(chunk)) for chunk in chunks) == text
