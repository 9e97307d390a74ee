"""Metrics of an answer: one function each, scores from 0 to 1. Knows nothing of models.

| name | score | as in |
|---|---|---|
| ``contained`` | 1 if an answer stands in what was said, both normalised as by SQuAD, as whole words | M+, section 4.3 |
| ``value`` | 1 if a value stands in it as whole words and whole numbers | our generated facts |
| ``exact`` | 1 if both are equal, normalised as by SQuAD | SQuAD |
| ``f1`` | best F1 of the words, normalised as by SQuAD | LongBench, InfiniteBench |
| ``share`` | share of the answers that stand in what was said, whatever the case | RULER (string_match_all) |
| ``any`` | 1 if one of them does | RULER (string_match_part) |
| ``pattern`` | 1 if a regular expression matches somewhere in it, whatever the case | our everyday questions |
| ``choice`` | 1 if the right option was named, by its letter or by its words | MemoryAgentBench's EventQA |
| ``rouge_l`` | best ROUGE-L F of the library rouge-score, with stemming (extra ``eval``) | SQuALITY, MemoryAgentBench |

Where a question cannot be answered, every metric gives 1 for saying so and 0 for anything else. Where values are forbidden (what was
forgotten), every metric gives 0 for saying one of them and 1 for anything else.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import regex

from mplus.evaluation.schedule.stream import Question
from mplus.evaluation.scoring.text_match import compared, contains_answer, contains_value, equals_answer, squad_normalised
from mplus.evaluation.word_lists import word_lists
from mplus.runtime.extras import missing
from mplus.text.writing_systems import UNSPACED, folded, unspaced, words

ABSTAINING: Final = word_lists(__file__)["abstaining"]
"""Phrases that count as saying that something is not known (LoCoMo's own scorer looks for the first two); beyond English the usual phrases only."""

_ABSTAINING: Final = tuple(map(folded, ABSTAINING))
_LETTER: Final = regex.compile(
    rf"(?:^|[\s(\[*\"'{UNSPACED}「『【（：，。])([A-Z])(?=$|[\s)\]*.:,\"'{UNSPACED}」』】）。，：、])", regex.VERSION1
)
_RUN: Final = regex.compile(r"[\p{L}\p{N}\p{M}]+|\p{Emoji_Presentation}", regex.VERSION1)


@dataclass(frozen=True)
class Metric:
    """A named score of one answer.

    Attributes:
        score: what was said, and the question, to 0..1.
    """

    name: str
    score: Callable[[str, Question], float]

    def __call__(self, said: str, question: Question) -> float:
        """The score; for a question without an answer 1 if it was refused, where values are forbidden 1 if none of them was said."""
        if question.forbidden:
            return float(abstains(said) or not any(contains_value(said, value) for value in question.forbidden))
        return float(abstains(said)) if question.unanswerable else float(self.score(said, question))


def abstains(said: str) -> bool:
    """Whether a text says that something is not known."""
    lowered = folded(said).replace("’", "'")
    return any(phrase in lowered for phrase in _ABSTAINING)


def word_f1(said: str, answer: str) -> float:
    """F1 of the words two texts share, normalised as by SQuAD (LongBench's qa_f1_score); of signs where a script has no spaces."""
    ours, theirs = (text.split() for text in compared(said, answer))
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def chosen_option(said: str, options: Sequence[str]) -> int | None:
    """Which option was named: the first that stands in the answer word by word, else a capital letter that stands alone."""
    plain = squad_normalised(said)
    named = [place for place, option in enumerate(options) if (text := squad_normalised(option)) and f" {text} " in f" {plain} "]
    if named:
        return max(named, key=lambda place: len(options[place]))
    letters = [ord(letter) - ord("A") for letter in _LETTER.findall(unicodedata.normalize("NFKC", said))]
    return next((letter for letter in letters if letter < len(options)), None)


def _choice(said: str, question: Question) -> float:
    chosen = chosen_option(said, question.options)
    return float(chosen is not None and question.options[chosen] in question.answers)


def _share(said: str, question: Question) -> float:
    return sum(_stands_in(said, answer) for answer in question.answers) / len(question.answers)


def _stands_in(said: str, answer: str) -> bool:
    """Whether an answer is part of what was said, words or not (RULER)."""
    wanted = unspaced(folded(answer).strip())
    return bool(wanted) and wanted in unspaced(folded(said))


class _Tokens:
    """Tokens for rouge-score: its own of plain letters; the library drops all others, which are words or signs here."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def tokenize(self, text: str) -> list[str]:
        """Words, English ones stemmed."""
        found: list[str] = []
        for run in _RUN.findall(folded(text)):
            found += self._own.tokenize(run) if run.isascii() else words(run)
        return found


@cache
def _rouge() -> Any:
    try:
        from rouge_score import rouge_scorer
        from rouge_score.tokenizers import DefaultTokenizer
    except ImportError:
        raise missing("rouge_score", "metric 'rouge_l'") from None
    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Tokens(DefaultTokenizer(use_stemmer=True)))


def _rouge_l(said: str, answer: str) -> float:
    """ROUGE-L's F; 1 for a text without words that is the answer."""
    if not _RUN.search(folded(answer)):
        return float(equals_answer(said, [answer]))
    return float(_rouge().score(answer, said)["rougeL"].fmeasure)


METRICS: Final[dict[str, Metric]] = {
    one.name: one
    for one in (
        Metric("contained", lambda said, question: contains_answer(said, question.answers)),
        Metric("value", lambda said, question: any(contains_value(said, answer) for answer in question.answers)),
        Metric("exact", lambda said, question: equals_answer(said, question.answers)),
        Metric("f1", lambda said, question: max(word_f1(said, answer) for answer in question.answers)),
        Metric("share", _share),
        Metric("any", lambda said, question: any(_stands_in(said, answer) for answer in question.answers)),
        Metric("pattern", lambda said, question: any(regex.search(one, said, regex.I | regex.S) for one in question.answers)),
        Metric("choice", _choice),
        Metric(
            "rouge_l",
            lambda said, question: max(_rouge_l(said, answer) for answer in question.answers),
        ),
    )
}
