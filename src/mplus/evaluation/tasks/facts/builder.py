"""Generated facts in running text, asked at many distances as the stream goes by, or all at its end.

First the text is read up to the largest distance; from there on reading stops every few hundred tokens, and facts that ended
each distance ago are asked. One pass gives any number of questions at every distance, all with about as much text read.
With layout "end" (the demo) a text of a chosen length is read to its end, and facts that stand at each distance from there are asked.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from random import Random
from typing import Final, Literal

from pydantic import Field

from mplus.corpus.facts import Fact
from mplus.corpus.held_out import HeldOutFacts
from mplus.corpus.stream import SHORTEST_HAYSTACK_TOKENS, build_stream, shortest_stream
from mplus.errors import EmptyTextError, InputError
from mplus.evaluation.schedule.distances import Distances, Seeds, fact_tolerance, within
from mplus.evaluation.schedule.stream import Encode, EvalStream, Question, ScheduledQuestion, Unit, cut_chunks, units_of
from mplus.evaluation.tasks.background import background_text
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext

log = logging.getLogger(__name__)

DEFAULT_DISTANCES: Final = (1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 160_000, 320_000, 640_000, 1_000_000)
DEFAULT_TOKENS: Final = 160_000
DEFAULT_QUESTIONS: Final = 128
DEFAULT_TOKENS_AT_END: Final = 164_000
DEFAULT_QUESTIONS_AT_END: Final = 16
SMALLEST_DISTANCE: Final = 200

_MOMENT_EVERY: Final = 500  # tokens between two stops
_PER_MOMENT: Final = 2  # questions of each distance at a stop
_SPARE: Final = 1  # facts planted beyond them: some land between the tolerances
_MARGIN_TOKENS: Final = 300
_AIM: Final = 0.6  # facts are aimed at this share of the tolerance
_ATTEMPTS: Final = 4


class FactsSettings(Settings):
    """Settings of the task file.

    Attributes:
        distances: tokens between the end of a fact and its question; None: the usual ones up to ``tokens``.
        tokens: largest distance; larger ones are left out.
        seeds: one stream each; None: the run's seed.
        layout: "end": facts stand at the distances from the end of a text of ``tokens``; else they are asked as the stream goes by.
    """

    distances: Distances | None = None
    tokens: int | None = Field(default=None, ge=1)
    seeds: Seeds | None = None
    layout: Literal["end"] | None = Field(default=None, exclude=True)  # told by the task's name and digest


def streams(settings: FactsSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per seed."""
    seeds = settings.seeds or (context.seed,)
    if settings.layout == "end":
        texts = {seed: _asked_at_end(settings, context, seed) for seed in seeds}
        return [StreamSource(name=f"seed {seed}", seed=seed, script=partial(texts.__getitem__, seed)) for seed in seeds]
    if settings.distances is None:
        wanted = within(DEFAULT_DISTANCES, settings.tokens or DEFAULT_TOKENS)
    else:
        wanted = within(settings.distances, settings.tokens) if settings.tokens else list(dict.fromkeys(settings.distances))
    if not wanted:
        raise InputError(f"no distance is left within {settings.tokens} tokens; raise tokens or name smaller distances")
    haystack = background_text(context)
    made = []
    for seed in seeds:
        task = FactsTask(
            haystack=haystack,
            distances=wanted,
            questions=DEFAULT_QUESTIONS if context.limit is None else context.limit,
            seed=seed,
            message=context.task.message,
        )
        scripts = task.scripts(context.encode, chunk_tokens=context.chunk_tokens, min_tokens=context.min_tokens)
        made += [StreamSource(name=f"seed {seed}", seed=seed, script=script) for script in scripts]
    return made


def distances_within(tokens: int, questions: int = DEFAULT_QUESTIONS_AT_END) -> list[int]:
    """The default distances up to 160,000 that a text of so many tokens, asked about at its end, has room for.

    Raises:
        InputError: not even the smallest one fits.
    """
    usual = within(DEFAULT_DISTANCES, DEFAULT_TOKENS)
    fitting = [distance for distance in usual if shortest_stream([distance], questions) <= tokens]
    if not fitting:
        needed = shortest_stream(usual[:1], questions)
        raise InputError(f"tokens is {tokens}, expected at least {needed} to ask {questions} questions 1,000 tokens back")
    return fitting


def _asked_at_end(settings: FactsSettings, context: TaskContext, seed: int) -> EvalStream:
    """A text with facts at distances from its end, where all of them are asked, the nearest first."""
    tokens, questions = settings.tokens or DEFAULT_TOKENS_AT_END, context.limit or DEFAULT_QUESTIONS_AT_END
    text = build_stream(
        background_text(context),
        lambda part: len(context.encode(part)),
        tokens=tokens,
        distances=distances_within(tokens, questions) if settings.distances is None else settings.distances,
        questions=questions,
        seed=seed,
    )
    chunks = [ids for piece in text.pieces for ids in context.cut(piece)]
    end, due = sum(map(len, chunks)), []
    for number, one in enumerate(sorted(text.planted, key=lambda planted: planted.tokens_back)):
        behind = end - one.tokens_back
        span = (behind - len(context.encode(" " + one.fact.statement)), behind)
        question = Question(
            id=str(number), cluster=f"seed {seed}: {number}", text=context.task.message(one.fact.question), answers=(one.fact.value,),
            span=span, answer_span=span, passage=one.fact.statement,
        )  # fmt: skip
        due.append(ScheduledQuestion(question, one.distance))
    statements = {one.question.id: one.question.passage for one in due}
    return EvalStream(chunks, {end: due}, about={"tokens": text.tokens, "statements": statements}, in_order=True)


@dataclass(frozen=True, kw_only=True)
class FactsTask:
    """A text with generated facts, and the questions about them.

    Attributes:
        haystack: running text of at least 2,000 tokens, repeated if too short.
        distances: tokens between the end of a fact and the question, at least 200.
        questions: at each distance.
        message: how a question is asked.
        fact_every: tokens per fact that is there anyway; where these do not suffice for a near distance, more are planted.
    """

    haystack: str
    distances: Sequence[int]
    questions: int = DEFAULT_QUESTIONS
    seed: int = 0
    fact_every: int = 200
    message: Callable[[str], str] = str

    def scripts(self, encode: Encode, *, chunk_tokens: int, min_tokens: int) -> list[EvalStream]:
        """The stream, as one script.

        Args:
            encode: token ids of a text, without special tokens.
            chunk_tokens: largest chunk.
            min_tokens: shortest chunk, if it can be helped.

        Raises:
            EmptyTextError: the haystack holds no text.
            InputError: a number is out of range, or the facts do not fit.
        """
        self._check()
        text = list(self._sentences(encode))
        for attempt in range(_ATTEMPTS):
            layout = _Layout(self, encode, text, spare=_SPARE + attempt, attempt=attempt)
            due = layout.choose()
            short = [distance for distance in self.distances if layout.asked(due, distance) < self.questions]
            if not short:
                script = EvalStream(cut_chunks(layout.units, chunk_tokens, min_tokens, due), due)
                script.about = {"facts": len(layout.questions), "first_asked_at": layout.moments[0]}
                return [script]
        raise InputError(
            f"there is no room for {self.questions} facts {short[0]} tokens back; "
            "use a text with shorter sentences, or leave out the smallest distances"
        )

    def _check(self) -> None:
        if not self.haystack.strip():
            raise EmptyTextError("the haystack holds no text; expected running text of at least 2,000 tokens")
        if not self.distances or min(self.distances) < SMALLEST_DISTANCE:
            raise InputError(
                f"distances are {list(self.distances)}, expected at least one, each of {SMALLEST_DISTANCE} tokens or more"
            )
        if self.questions < 1:
            raise InputError(f"questions per distance is {self.questions}, expected 1 or more")

    def _sentences(self, encode: Encode) -> Iterator[Unit]:
        """The haystack in sentences, in its order."""
        cut = [unit for _, unit in units_of(self.haystack, encode)]
        tokens = sum(len(unit.ids) for unit in cut)
        if tokens < SHORTEST_HAYSTACK_TOKENS:
            raise InputError(
                f"the haystack has {tokens} tokens, expected at least {SHORTEST_HAYSTACK_TOKENS}; give a longer text"
            )
        if tokens < max(self.distances):
            log.warning("the haystack has %d tokens and is repeated to reach more than %d", tokens, max(self.distances))
        yield from cut


class _Layout:
    """Sentences and facts in reading order, with the moments when reading stops."""

    def __init__(self, task: FactsTask, encode: Encode, text: list[Unit], *, spare: int, attempt: int) -> None:
        self.task, self.encode = task, encode
        self.rng = Random(f"mplus facts stream {task.seed} {attempt}")
        first = max(task.distances) + fact_tolerance(max(task.distances)) + _MARGIN_TOKENS
        stops = -(-task.questions // _PER_MOMENT)
        self.wanted_moments = [first + _MOMENT_EVERY * number for number in range(stops)]
        self.units: list[Unit] = []
        self.questions: list[Question] = []
        self.moments: list[int] = []
        self._lay(text, self._targets(spare))
        self.ends = [question.end for question in self.questions]

    def _targets(self, spare: int) -> list[int]:
        """Positions where facts are aimed at: some all along, more where a moment would lack some."""
        length = self.wanted_moments[-1]
        count = length // self.task.fact_every
        targets = sorted(self.rng.randrange(length) for _ in range(count))
        for distance in sorted(self.task.distances):
            width = int(_AIM * fact_tolerance(distance))
            if width >= 4 * _MOMENT_EVERY:  # many moments share such a window: what is there anyway suffices
                continue
            for moment in self.wanted_moments:
                middle = moment - distance
                there = sum(abs(target - middle) <= width for target in targets)
                targets += [middle + self.rng.randint(-width, width) for _ in range(_PER_MOMENT + spare - there)]
        return sorted(targets)

    def _lay(self, text: list[Unit], targets: list[int]) -> None:
        """Sentence by sentence, each fact at the sentence end nearest to its target."""
        facts = HeldOutFacts(self.task.seed).make(len(targets))
        self.rng.shuffle(facts)  # facts of one subject are made one after another: spread them
        waiting = list(zip(targets, facts, strict=True))[::-1]
        position, moments = 0, self.wanted_moments[::-1]
        start = self.rng.randrange(len(text))
        for unit in islice(cycle(text), start, None):
            while waiting and waiting[-1][0] <= position + len(unit.ids) / 2:
                position = self._plant(waiting.pop()[1], position)
            if moments and moments[-1] <= position + len(unit.ids) / 2:
                self.moments.append(position)
                moments.pop()
                if not moments:
                    return
            self.units.append(unit)
            position += len(unit.ids)

    def _plant(self, fact: Fact, position: int) -> int:
        unit = Unit(ids=self.encode(" " + fact.statement))
        self.units.append(unit)
        span = (position, position + len(unit.ids))
        number = str(len(self.questions))
        self.questions.append(
            Question(
                id=number, cluster=f"seed {self.task.seed}: {number}", text=self.task.message(fact.question), query=fact.question,
                answers=(fact.value,), span=span, answer_span=span, passage=fact.statement,
            )
        )  # fmt: skip
        return span[1]

    def choose(self) -> dict[int, list[ScheduledQuestion]]:
        """Facts due at every moment; each is asked once at most at each distance."""
        due: dict[int, list[ScheduledQuestion]] = {moment: [] for moment in self.moments}
        for distance in self.task.distances:
            used: set[str] = set()
            for quota in (_PER_MOMENT, self.task.questions):  # what one moment lacked, others make up for
                for moment in self.moments:
                    for question in self._candidates(moment, distance, used)[:quota]:
                        if len(used) < self.task.questions:
                            used.add(question.id)
                            due[moment].append(ScheduledQuestion(question, distance))
        return {moment: asked for moment, asked in due.items() if asked}

    def _candidates(self, moment: int, distance: int, used: set[str]) -> list[Question]:
        tolerance = fact_tolerance(distance)
        first = bisect_left(self.ends, moment - distance - tolerance)
        last = bisect_right(self.ends, moment - distance + tolerance)
        fitting = [one for one in self.questions[first:last] if one.id not in used]
        self.rng.shuffle(fitting)
        return fitting

    @staticmethod
    def asked(due: dict[int, list[ScheduledQuestion]], distance: int) -> int:
        """Questions at one distance."""
        return sum(one.distance == distance for asked in due.values() for one in asked)
