"""Needles in a haystack: single statements at chosen depths of texts of chosen lengths, asked at the end. Knows tokens, no model.

One text holds a needle at every depth, each with a key of its own, so that one reading serves a whole row of the map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from pydantic import Field, field_validator

from mplus.errors import InputError
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import EvalStream, ScheduledQuestion
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext, spread
from mplus.evaluation.tasks.haystack import Haystack, LongLengths, laid, place_of
from mplus.evaluation.word_lists import word_lists

_LISTS: Final = word_lists(__file__)
CITIES: Final = _LISTS["cities"]
"""Cities that novels and handbooks hardly mention; a text uses each once."""

_COLOURS, _THINGS, _BOXES, _WORDS = (_LISTS[name] for name in ("colours", "things", "boxes", "passwords"))

_MOST_FILLED: Final = 0.5  # share of a text that needles may make up


@dataclass(frozen=True)
class Needle:
    """A statement, its question, and the words that answer it."""

    statement: str
    question: str
    answer: str


class NeedleSettings(Settings):
    """Settings of the task file.

    Attributes:
        lengths: tokens of a text, its needles included.
        depths: where needles stand, in percent of the haystack; one is at the sentence end nearest to it.
        needles_per_cell: texts of each length, each with needles of its own.
    """

    lengths: LongLengths = (4000, 16_000, 64_000, 160_000)
    depths: tuple[float, ...] = (0, 25, 50, 75, 100)
    needles_per_cell: int = Field(default=2, ge=1)

    @field_validator("depths")
    @classmethod
    def _within(cls, depths: tuple[float, ...]) -> tuple[float, ...]:
        if not depths or not all(0 <= depth <= 100 for depth in depths):
            raise ValueError("expected depths in percent, each from 0 to 100")
        if len(set(depths)) > len(CITIES):
            raise ValueError(f"expected {len(CITIES)} depths at most, as many as there are keys for one text")
        return tuple(sorted(set(depths)))


def streams(settings: NeedleSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per length and turn; what is asked depends on the limit, what is read does not."""
    haystack = Haystack(context)
    cells = [(turn, depth) for turn in range(settings.needles_per_cell) for depth in settings.depths]
    asked = list(spread(cells, len(cells) if context.limit is None else context.limit))
    made = []
    for length in settings.lengths:
        for turn in dict.fromkeys(turn for turn, _ in asked):
            depths = frozenset(depth for at, depth in asked if at == turn)
            make = partial(_script, settings, haystack, length, turn, depths)
            made.append(StreamSource(name=f"{short(length)} {turn}", seed=context.seed, script=make))
    return made


def _script(settings: NeedleSettings, haystack: Haystack, length: int, turn: int, asked: frozenset[float]) -> EvalStream:
    context = haystack.context
    rng = Random(f"mplus needle {context.seed} {length} {turn}")
    needles = _needles(rng, len(settings.depths))
    opens = settings.depths[0] == 0
    ids = [context.encode(("" if opens and not number else " ") + one.statement) for number, one in enumerate(needles)]
    needed = sum(map(len, ids))
    if needed > _MOST_FILLED * length:
        raise InputError(f"{len(ids)} needles of {needed} tokens are too many for a text of {length}; name fewer depths")
    filler = haystack.sentences(rng, length - needed, opens=not opens)
    places = [place_of(filler, depth / 100) if depth else 0 for depth in settings.depths]
    if not opens:
        places = [max(1, place) for place in places]  # without a blank line before it, the haystack's first sentence stands first
    units, spans = laid(filler, list(zip(places, ids, strict=True)))
    end = sum(len(unit.ids) for unit in units)
    due = []
    for depth, needle, span in zip(settings.depths, needles, spans, strict=True):
        if depth in asked:
            name = f"{short(length)} {depth:g} {turn}"
            place = {"row": short(length), "column": f"{depth:g} %"}
            question = context.question(name, needle.question, (needle.answer,), span, passage=needle.statement, **place)
            due.append((end, ScheduledQuestion(question, end - span[1])))
    return context.script([units], due)


def _needles(rng: Random, count: int) -> list[Needle]:
    """Needles of all kinds in turn, no city and no answer twice in a text."""
    cities = rng.sample(CITIES, count)
    kinds = [number % 4 for number in range(count)]
    rng.shuffle(kinds)
    used: set[str] = set()
    made = []
    for city, kind in zip(cities, kinds, strict=True):
        needle = _needle(rng, city, kind)
        while needle.answer in used:  # each kind has more answers than a text has needles of it
            needle = _needle(rng, city, kind)
        used.add(needle.answer)
        made.append(needle)
    return made


def _needle(rng: Random, city: str, kind: int) -> Needle:
    if kind == 0:
        number = str(rng.randrange(10_000, 100_000))
        return Needle(f"The special number of {city} is {number}.", f"What is the special number of {city}?", number)
    if kind == 1:
        goods = f"{rng.choice(_COLOURS)} {rng.choice(_THINGS)}"
        return Needle(
            f"The best thing to buy at the night market of {city} is a pair of {goods}.",
            f"What is the best thing to buy at the night market of {city}?",
            goods,
        )
    if kind == 2:
        word = rng.choice(_WORDS)
        return Needle(
            f'Whoever visits the clock tower of {city} must say the password "{word}" at the door.',
            f"Which password must visitors of the clock tower of {city} say?",
            word,
        )
    box = f"{rng.choice(_COLOURS)} {rng.choice(_BOXES)}"
    return Needle(f"The mayor of {city} hides her diary in the {box}.", f"Where does the mayor of {city} hide her diary?", box)
