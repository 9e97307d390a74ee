"""Needles that share no word with their questions (NoLiMa), with held-out names for answers. Knows tokens, no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import EvalStream, ScheduledQuestion
from mplus.evaluation.tasks import people
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack, LongLengths
from mplus.evaluation.tasks.planted import planted, sources, texts
from mplus.evaluation.word_lists import word_lists

DEFAULT_QUESTIONS: Final = 128
_LISTS: Final = word_lists(__file__)
_LINKED: Final = {"country": "place", "occupation": "tool", "kind": "kind"}
_REWORDED: Final = "other words"
_MOST_OF_A_KIND: Final = 8  # in a text


class ParaphraseSettings(Settings):
    """Settings of the task file.

    Attributes:
        lengths: tokens of a text; a row for each kind of needle at each.
    """

    lengths: LongLengths = (4000, 16_000, 64_000)


@dataclass(frozen=True)
class Paraphrase:
    """A needle with its question, whose answer is the name in it."""

    kind: str
    name: str
    statement: str
    question: str


def streams(settings: ParaphraseSettings, context: TaskContext) -> list[StreamSource]:
    """Texts of each length until its rows have their questions."""
    haystack, made = Haystack(context), list[StreamSource]()
    for length in settings.lengths:
        made += texts(context, DEFAULT_QUESTIONS, _MOST_OF_A_KIND, partial(_script, haystack, length), short(length))
    return made


def paraphrases(rng: Random, count: int) -> list[Paraphrase]:
    """So many needles of each kind; none answers the question of another."""
    names = iter(people.names(rng, count * (len(_LINKED) + 1)))
    made = []
    for kind, word in _LINKED.items():
        for pair in rng.sample(_LISTS[f"{word}s"], count):
            said, asked = pair.split(">")
            name = next(names)
            statement = rng.choice(_LISTS[f"{word} statements"]).format(s=name, v=said)
            made.append(Paraphrase(kind, name, statement, rng.choice(_LISTS[f"{word} questions"]).format(w=asked)))
    for pair in rng.sample(_LISTS["rewordings"], count):
        said, asked = pair.split(">")
        name = next(names)
        made.append(Paraphrase(_REWORDED, name, said.format(s=name), asked))
    return made


def _script(haystack: Haystack, length: int, name: str, count: int) -> EvalStream:
    context, rng = haystack.context, Random(f"mplus paraphrase {haystack.context.seed} {name}")
    needles, parts = paraphrases(rng, count), sources(1)
    for number, needle in enumerate(needles):
        parts[0].statements.append((str(number), rng.random(), needle.statement))
    text = planted(haystack, rng, parts, length)
    due = []
    for number, needle in enumerate(needles):
        more = {"row": f"{needle.kind} {short(length)}", "passage": needle.statement}
        question = context.question(f"{name} {number}", needle.question, (needle.name,), text.spans[str(number)], **more)
        due.append((text.tokens, ScheduledQuestion(question, 0)))
    return context.script([text.units], due, text.sources)
