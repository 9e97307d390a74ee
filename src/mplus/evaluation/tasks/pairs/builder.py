"""Facts about pairs of names in a made-up language, asked at distances from the end of one text. For models that know its words.

About every fourth sentence is a fact; at each distance those are asked that ended nearest to it, fewer where there
is no room for so many.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Final

from pydantic import Field

from mplus.corpus import pair_facts
from mplus.corpus.pair_facts import PairFact
from mplus.errors import InputError
from mplus.evaluation.schedule.distances import Distances, Seeds, within
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion, Unit, cut_chunks
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext

DEFAULT_TOKENS: Final = 164_000
DEFAULT_QUESTIONS: Final = 32
DEFAULT_DISTANCES: Final = (250, 500, 1000, 2000, 4000, 8000, 16_000, 20_000, 32_000, 64_000, 128_000, 160_000)
_REACH: Final = 0.25
"""A fact may be off its distance by this share of it."""


class PairsSettings(Settings):
    """Settings of the task file.

    Attributes:
        tokens: words read.
        distances: tokens between the end of a fact and the end of the text.
        seeds: one text each; None: the run's seed.
    """

    tokens: int = Field(default=DEFAULT_TOKENS, ge=1)
    distances: Distances = DEFAULT_DISTANCES
    seeds: Seeds | None = None


def streams(settings: PairsSettings, context: TaskContext) -> list[StreamSource]:
    """One text per seed."""
    _check_words(context)
    seeds = settings.seeds or (context.seed,)
    return [StreamSource(name=f"seed {seed}", seed=seed, script=partial(_script, settings, context, seed)) for seed in seeds]


def _check_words(context: TaskContext) -> None:
    text = " ".join(pair_facts.VOCABULARY[1:])
    if len(context.encode(text)) != len(pair_facts.VOCABULARY) - 1:
        raise InputError(
            f"task '{context.task.task}' is in a made-up language whose words this model does not know; give a model trained on it, "
            "such as paper-tiny"
        )


def _script(settings: PairsSettings, context: TaskContext, seed: int) -> EvalStream:
    randomness = Random(f"mplus pairs {seed}")
    made = pair_facts.facts(randomness, "held_out")
    units, ends, position = list[Unit](), list[tuple[int, PairFact]](), 0
    while position < settings.tokens:
        fact = next(made) if randomness.random() < pair_facts.FACT_SHARE else None
        ids = context.encode(pair_facts.filler(randomness) if fact is None else fact.statement)
        units.append(Unit(ids=ids))
        position += len(ids)
        if fact is not None:
            ends.append((position, fact))
    due = [
        ScheduledQuestion(_question(fact, end, seed, context), distance)
        for distance in _fitting(settings, position)
        for end, fact in _nearest(ends, position - distance, distance, context.limit or DEFAULT_QUESTIONS)
    ]
    chunks = cut_chunks(units, context.chunk_tokens, context.min_tokens, [position])
    statements = {one.question.id: one.question.passage for one in due}
    return EvalStream(chunks, {position: due}, about={"tokens": position, "statements": statements}, in_order=True)


def _fitting(settings: PairsSettings, tokens: int) -> list[int]:
    found = within(settings.distances, tokens)
    if not found:
        raise InputError(f"no distance is left within {tokens} tokens; raise tokens or name smaller distances")
    return sorted(found)


def _nearest(ends: list[tuple[int, PairFact]], place: int, distance: int, count: int) -> list[tuple[int, PairFact]]:
    """Facts whose end is nearest to a place: `count`, or fewer where there are fewer about there."""
    near = [one for one in ends if abs(one[0] - place) <= max(_REACH * distance, 1)]
    if not near:
        raise InputError(f"no fact stands about {distance} tokens back; leave out the smallest distances")
    return sorted(near, key=lambda one: abs(one[0] - place))[:count]


def _question(fact: PairFact, end: int, seed: int, context: TaskContext) -> Question:
    span = (end - pair_facts.FACT_WORDS, end)
    return Question(
        id=str(end), cluster=f"seed {seed}: {end}", text=context.task.message(fact.question), answers=(fact.value,), span=span,
        answer_span=span, passage=fact.statement,
    )  # fmt: skip
