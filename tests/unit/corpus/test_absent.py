"""Laws of questions with and without an answer: what is present stands in the sources, what is absent does not."""

from __future__ import annotations

import pytest

from mplus.corpus.absent import question_set
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.names import reserved_name_words
from mplus.corpus.passages import Passage, PassageFile, PassageQuestion
from mplus.corpus.splits import nq_split
from mplus.errors import InputError

FILLER = "\n\n".join(f"Paragraph {number} says nothing of interest to anybody. " * 8 for number in range(4))


def file_of(articles: int, passages: int = 3) -> PassageFile:
    """A file in which every passage says one thing."""
    made = []
    for place in [f"{a}-{p}" for a in range(1, articles + 1) for p in range(passages)]:
        asked = [
            PassageQuestion(id=f"{place} {number}", text=f"{what} the bells of town {place}?", answers=(f"q{place} stone",))
            for number, what in enumerate(("What is the weight of", "How heavy are"))
        ]
        text = f"In town {place} the bells weigh q{place} stone."
        made.append(Passage(article=f"Article {place.split('-')[0]}", text=text, questions=tuple(asked)))
    return PassageFile("towns.json", "squad", made)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_an_answer_stands_in_the_sources_where_it_is_present_and_not_where_it_is_absent(split: str) -> None:
    made = question_set("train" if split == "train" else "held_out", 1, size=24, filler=FILLER, files=[file_of(40)])
    texts = [text for _, text in made.sources]
    for asked in made.questions:
        if asked.is_present:
            assert any(asked.answers[0] in text for text in texts), asked
        elif not asked.kind.startswith("fact"):  # values of facts recur, names of towns do not
            assert not any(asked.answers[0] in text for text in texts), asked
    present = sum(asked.is_present for asked in made.questions)
    assert abs(present - len(made.questions) / 2) <= 2
    assert len({name for name, _ in made.sources}) == len(made.sources)


def test_absent_facts_are_look_alikes_of_written_ones() -> None:
    made = question_set("held_out", 2, size=60, filler=FILLER)
    text = " ".join(text for _, text in made.sources)
    kinds = {asked.kind for asked in made.questions}
    assert kinds == {"fact", "fact, same name", "fact, other name", "fact, near name"}
    facts = {fact.question: fact for fact in HeldOutFacts(2).make(120)}
    for asked in made.questions:
        if asked.kind == "fact, same name":
            assert facts[asked.text].subject in text and facts[asked.text].statement not in text
        if asked.kind == "fact, near name":
            assert asked.text not in facts


def test_the_splits_share_no_names_and_no_articles() -> None:
    train = question_set("train", 1, size=24, filler=FILLER, files=[file_of(40)])
    held_out = question_set("held_out", 1, size=24, filler=FILLER, files=[file_of(40)])
    words = {word.strip("?.,'").lower() for asked in train.questions if asked.kind == "fact" for word in asked.text.split()}
    assert not words & {word for word in reserved_name_words() if " " not in word and len(word) > 6}
    assert not {text for name, text in train.sources if name.startswith("squad")} & {text for _, text in held_out.sources}
    assert all(
        nq_split(f"Article {asked.text.split('-')[0].split()[-1]}") == "eval"
        for asked in held_out.questions
        if asked.kind == "squad"
    )


def test_the_same_seed_makes_the_same_set() -> None:
    first, second = (question_set("train", 7, size=24, filler=FILLER) for _ in range(2))
    assert first == second != question_set("train", 8, size=24, filler=FILLER)


def test_too_small_a_file_is_refused() -> None:
    with pytest.raises(InputError, match=r"'towns.json' has \d+ short passages .* give a larger file, or ask fewer questions"):
        question_set("train", 1, size=400, filler=FILLER, files=[file_of(4)])
    with pytest.raises(InputError, match="has no paragraph of 300 characters"):
        question_set("train", 1, size=24, filler="Short.")
