"""Questions that a text answers and look-alikes that it does not, to calibrate a confidence with. Knows neither torch nor models.

A question without an answer is the hardest where much of it is there: the same name with another relation, another name with the same
relation, nearly the same name, another passage of the same article.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from mplus.corpus.facts import Fact, FactGenerator
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.names import confusable_pool
from mplus.corpus.passages import Passage, PassageFile, PassageQuestion
from mplus.corpus.splits import nq_split
from mplus.corpus.word_lists import Split
from mplus.errors import InputError

_FACTS_OF_A_NOTE: Final = (1, 2, 3, 5)
_FILLER_CHARS: Final = (200, 400, 600)
_LONGEST_PASSAGE_CHARS: Final = 1600
_LONGEST_ANSWER_CHARS: Final = 40
_SHORTEST_PARAGRAPH_CHARS: Final = 300
_LETTERS: Final = "aeioulnrst"


@dataclass(frozen=True, kw_only=True)
class AskedQuestion:
    """A question, and whether the text answers it.

    Attributes:
        kind: of question: `fact`, or the name of a file of passages; where the answer is absent, what is there that looks alike.
        answers: right ones; where the answer is absent, what would be right elsewhere.
    """

    kind: str
    text: str
    answers: tuple[str, ...]
    is_present: bool


@dataclass
class QuestionSet:
    """Sources to be written into one memory, and questions about them, both in random order.

    Attributes:
        sources: names and texts.
    """

    sources: list[tuple[str, str]] = field(default_factory=list)
    questions: list[AskedQuestion] = field(default_factory=list)


def question_set(split: Split, seed: int, *, size: int, filler: str, files: Sequence[PassageFile] = ()) -> QuestionSet:
    """Make about `size` questions about generated facts, and as many about the passages of each file, half of each absent.

    Args:
        split: `train`, or `held_out`: names and wordings that training never sees, and the articles that measure.
        filler: running text that the facts stand in.

    Raises:
        InputError: a file has no passage that can be asked about.
    """
    rng, made = Random(f"mplus absent {split} {seed}"), QuestionSet()
    _add_facts(made, _facts(split, seed, 2 * size), rng, size, filler)
    for file in files:
        _add_passages(made, file, split, rng, size)
    rng.shuffle(made.sources)
    rng.shuffle(made.questions)
    return made


# -- generated facts -----------------------------------------------------------------------------------------------------


def _facts(split: Split, seed: int, count: int) -> list[Fact]:
    if split == "held_out":
        return HeldOutFacts(seed).make(count)
    rng = Random(f"mplus absent facts {seed}")
    return FactGenerator(rng, pool=confusable_pool(rng)).make(count)


def _add_facts(made: QuestionSet, facts: list[Fact], rng: Random, size: int, filler: str) -> None:
    rng.shuffle(facts)
    written, absent = facts[: len(facts) // 2], facts[len(facts) // 2 :]
    made.sources += _notes(written, rng, filler)
    subjects = {fact.subject for fact in written}
    near = [one for fact in written if (one := _near(fact, subjects, rng)) is not None]
    for fact in written[: size // 2]:
        made.questions.append(AskedQuestion(kind="fact", text=fact.question, answers=(fact.value,), is_present=True))
    unwritten = absent[: size // 2 - min(size // 6, len(near))]
    for fact in unwritten:
        kind = "fact, same name" if fact.subject in subjects else "fact, other name"
        made.questions.append(AskedQuestion(kind=kind, text=fact.question, answers=(fact.value,), is_present=False))
    made.questions += near[: size // 6]


def _notes(facts: Sequence[Fact], rng: Random, filler: str) -> list[tuple[str, str]]:
    """The facts in notes of a few, behind some running text."""
    paragraphs = [part for part in filler.split("\n\n") if len(part) >= _SHORTEST_PARAGRAPH_CHARS]
    if not paragraphs:
        raise InputError(f"the running text has no paragraph of {_SHORTEST_PARAGRAPH_CHARS} characters; give a longer text")
    notes, left = list[tuple[str, str]](), list(facts)
    while left:
        count = rng.choice(_FACTS_OF_A_NOTE)
        statements, left = [fact.statement for fact in left[:count]], left[count:]
        before = rng.choice(paragraphs)[: rng.choice(_FILLER_CHARS)]
        notes.append((f"note {len(notes)}", " ".join([before, *statements])))
    return notes


def _near(fact: Fact, subjects: set[str], rng: Random) -> AskedQuestion | None:
    """The question of a fact with nearly the same name, of nobody: one letter is another, or one word of the name another subject's."""
    parts = fact.subject.split(" ")
    names = [at for at, part in enumerate(parts) if _is_name(part)]
    if not names or fact.subject not in fact.question:
        return None
    at = rng.choice(names)
    if rng.random() < 0.5:
        letter = rng.randrange(1, len(parts[at]))
        parts[at] = parts[at][:letter] + rng.choice(_LETTERS) + parts[at][letter + 1 :]
    else:
        parts[at] = rng.choice(sorted({part for name in subjects for part in name.split(" ") if _is_name(part)}))
    name = " ".join(parts)
    if name in subjects or fact.subject == name:
        return None
    return AskedQuestion(
        kind="fact, near name", text=fact.question.replace(fact.subject, name), answers=(fact.value,), is_present=False
    )


def _is_name(word: str) -> bool:
    return word[:1].isupper() and len(word) > 3


# -- passages of files ---------------------------------------------------------------------------------------------------


def _add_passages(made: QuestionSet, file: PassageFile, split: Split, rng: Random, size: int) -> None:
    """Half of the questions of passages that are written, the others of passages that are not, first of the same articles."""
    half = "train" if split == "train" else "eval"
    usable = [(one, asked) for one in file.passages if nq_split(one.article) == half and (asked := _asked_of(one))]
    rng.shuffle(usable)
    there, beyond = usable[: -(-size // 4)], usable[-(-size // 4) :]
    if not there or not beyond:
        raise InputError(
            f"'{file.path}' has {len(usable)} short passages that can be asked about in this half, expected {size // 4 + 1} or more; "
            "give a larger file, or ask fewer questions"
        )
    articles, name = {passage.article for passage, _ in there}, file.form
    texts = {passage.text for passage, _ in there}
    for number, (passage, asked) in enumerate(there):
        made.sources.append((f"{name} {len(made.sources)} {number}", passage.text))
        made.questions += [_question(name, one, is_present=True) for one in rng.sample(asked, min(2, len(asked)))]
    beyond = [(passage, asked) for passage, asked in beyond if passage.text not in texts]
    same = [(f"{name}, same article", asked) for passage, asked in beyond if passage.article in articles]
    other = [(f"{name}, other article", asked) for passage, asked in beyond if passage.article not in articles]
    for kind, asked in [*same[: size // 4], *other[: size // 2 - min(len(same), size // 4)]]:
        made.questions.append(_question(kind, rng.choice(asked), is_present=False))


def _asked_of(passage: Passage) -> list[PassageQuestion]:
    """The questions whose answer is short, stands in the passage and not in the question."""
    if len(passage.text) > _LONGEST_PASSAGE_CHARS:
        return []
    return [one for one in passage.questions if _is_fit(one.text, one.answers, passage.text)]


def _is_fit(question: str, answers: Iterable[str], text: str) -> bool:
    usable = [one for one in answers if one in text and len(one) <= _LONGEST_ANSWER_CHARS]
    return bool(usable) and not any(one.lower() in question.lower() for one in answers)


def _question(kind: str, asked: PassageQuestion, *, is_present: bool) -> AskedQuestion:
    return AskedQuestion(kind=kind, text=asked.text, answers=asked.answers, is_present=is_present)
