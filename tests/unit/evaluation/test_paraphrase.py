"""No content word of a question stands in its needle, and no needle answers the question of another."""

from __future__ import annotations

import re
from random import Random

from mplus.evaluation.tasks.paraphrase.builder import Paraphrase, paraphrases

SMALL = frozenset(
    "a an and are as at be been by did do does for from had has have her his in into is it its of on or out over that the their them "
    "there they this to up was were what when where which who whom whose will with one last year week day now just any some way".split()
)
"""Words that say nothing of what is asked for."""


def content(text: str) -> set[str]:
    """Words of a text that mean something, without the ends that grammar gives them."""
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", text)} - SMALL
    return {re.sub(r"(ing|ed|es|s)$", "", word) if len(word) > 4 else word for word in words}


def every() -> list[Paraphrase]:
    """Needles of many texts, so that each pair of words of the lists is among them."""
    return [one for seed in range(40) for one in paraphrases(Random(seed), 8)]


def test_a_question_shares_no_content_word_with_its_needle() -> None:
    shared = {one.question: content(one.question) & content(one.statement) for one in every()}
    assert {question: words for question, words in shared.items() if words} == {}


def test_the_answer_is_in_the_needle_and_not_in_the_question() -> None:
    for one in every():
        assert one.name in one.statement and one.name not in one.question


def test_a_text_asks_each_question_once() -> None:
    for seed in range(40):
        made = paraphrases(Random(seed), 8)
        assert len({one.question for one in made}) == len(made) == len({one.name for one in made})
