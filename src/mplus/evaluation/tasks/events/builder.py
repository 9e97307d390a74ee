"""The next event in a book: five events of the read text in their order, and six to choose the next one from.

No model has a part in it: an event is a sentence of the book in which a frequent character does something. Knows tokens and files.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from mplus.errors import InputError
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import Encode, EvalStream, Question, ScheduledQuestion, Span, Unit, units_of
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import LongLengths
from mplus.evaluation.word_lists import word_lists
from mplus.text.files import read_text

log = logging.getLogger(__name__)

DEFAULT_QUESTIONS: Final = 60
"""Of a row, over all books."""

SHOWN: Final = 5
OPTIONS: Final = 6
WORDS: Final = (8, 40)
"""Shortest and longest sentence that is an event."""

_NAMES: Final = 20  # characters of a book at most
_MENTIONS: Final = 15
_DEEDS: Final = 4  # how often a name stands right before a verb of doing
_INSIDE: Final = 0.5  # share of the mentions that do not begin a sentence
_AS_PLACE: Final = 0.2  # share of the mentions, at most, behind an article or "in", "at", "from"

_LISTS: Final = word_lists(__file__)
_VERB: Final = rf"(?:[a-z]{{2,}}ed|{'|'.join(_LISTS['past'])})"
_NAME: Final = r"(?-i:[A-Z][a-zà-ÿ]{2,})"
_PAST_TENSE: Final = re.compile(rf"\b{_VERB}\b")
_MENTION: Final = re.compile(rf"\b{_NAME}\b")
_DEED: Final = re.compile(rf"\b({_NAME})\s+{_VERB}\b")
_WITHIN: Final = re.compile(rf"(?:[a-z,;]|Mr\.|Mrs\.|Dr\.)\s+({_NAME})\b")
_PLACE: Final = re.compile(rf"\b(?:[Tt]he|[Aa]n?|[Ii]n|[Aa]t|[Ff]rom|[Ii]nto|[Nn]ear)\s+({_NAME})\b")
_QUOTES: Final = ('"', "“", "”", "‘")


class EventsSettings(Settings):
    """Settings of the task file.

    Attributes:
        tokens: of each book from its beginning; several: a row for each.
    """

    tokens: LongLengths = (16_000,)


@dataclass(frozen=True)
class Event:
    """A sentence of a book and where it stands."""

    text: str
    span: Span


@dataclass(frozen=True)
class Beginning:
    """The beginning of a book: its sentences, the events in them, and whether the book goes on behind it."""

    units: list[Unit]
    events: list[Event]
    goes_on: bool

    @property
    def is_enough(self) -> bool:
        """Whether it is as long as was wanted and there is something to ask."""
        return self.goes_on and len(self.events) >= SHOWN + OPTIONS


def streams(settings: EventsSettings, context: TaskContext) -> list[StreamSource]:
    """One stream per book and length; questions are spread evenly over the books that are long enough."""
    books = _books(context)
    count = DEFAULT_QUESTIONS if context.limit is None else context.limit
    made = []
    for tokens in settings.tokens:
        usable = [(name, text) for name, text in books.items() if beginning(text, tokens, context.encode).is_enough]
        if not usable:
            raise InputError(
                f"no book of {len(books)} has {short(tokens)} tokens and {SHOWN + OPTIONS} events in them; "
                "give longer novels with --data, or change tokens"
            )
        if len(usable) < len(books):
            left_out = ", ".join(name for name in books if name not in dict(usable))
            log.warning("left out, for they are shorter than %d tokens or tell too little in them: %s", tokens, left_out)
        for number, (name, text) in enumerate(usable):
            share = count // len(usable) + (number < count % len(usable))
            if share:
                make = partial(_script, context, name, text, tokens, share)
                made.append(StreamSource(name=f"{name} {short(tokens)}", seed=context.seed, script=make))
    return made


def characters(text: str) -> list[str]:
    """Names of a book's characters, the most frequent first.

    Capitalised words that are frequent, stand within sentences more often than at their beginning, often right before a verb of
    doing, and seldom where places and peoples stand.
    """
    mentions, within = Counter(_MENTION.findall(text)), Counter(_WITHIN.findall(text))
    deeds, places = Counter(_DEED.findall(text)), Counter(_PLACE.findall(text))
    lower = Counter(re.findall(r"\b[a-zà-ÿ]{3,}\b", text))
    return [
        name
        for name, times in mentions.most_common()
        if times >= _MENTIONS
        and name not in _LISTS["no names"]
        and deeds[name] >= _DEEDS
        and within[name] >= _INSIDE * times
        and places[name] <= _AS_PLACE * times
        and lower[name.lower()] <= times / 10
    ][:_NAMES]


def is_event(sentence: str, names: Sequence[str]) -> bool:
    """Whether a sentence, which nobody speaks, tells something of a character in the past tense."""
    words = sentence.split()
    return (
        WORDS[0] <= len(words) <= WORDS[1]
        and sentence[:1].isupper()
        and sentence.endswith(".")
        and not sentence.isupper()
        and not any(quote in sentence for quote in _QUOTES)
        and any(re.search(rf"\b{name}\b", sentence) for name in names)
        and _PAST_TENSE.search(sentence) is not None
    )


def beginning(text: str, tokens: int, encode: Encode) -> Beginning:
    """The beginning of a book in whole sentences, at most so many tokens, and the events in it, no sentence twice."""
    names = characters(text)
    units: list[Unit] = []
    found: dict[str, Event] = {}
    position = 0
    for paragraph in re.split(r"\n[ \t]*\n", text):
        before = ""
        for sentence, unit in units_of(paragraph, encode, starts_paragraph=bool(units)):
            span = (position, position + len(unit.ids))
            if span[1] > tokens:
                return Beginning(units, list(found.values()), goes_on=True)
            units.append(unit)
            position = span[1]
            plain = " ".join(sentence.split())
            if not _is_open(before) and is_event(plain, names):
                found.setdefault(plain, Event(plain, span))
            before += sentence
    return Beginning(units, list(found.values()), goes_on=False)


def _is_open(said: str) -> bool:
    """Whether somebody still speaks behind this part of a paragraph."""
    return said.count("“") > said.count("”") or said.count('"') % 2 == 1


def _books(context: TaskContext) -> dict[str, str]:
    """Texts by name that were given as data, else as haystack."""
    if context.data:
        files = [file for file in context.files() if file.suffix.lower() == ".txt"]
    else:
        files = [file for path in context.haystack for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"task '{context.task.task}' asks about books; give .txt files, or a directory of them, with --data")
    books: dict[str, str] = {}
    for file in files:
        if file.stem in books:
            raise InputError(f"two books are named '{file.stem}'; rename one, for results are kept by name")
        books[file.stem] = read_text(file)
    return books


def _script(context: TaskContext, book: str, text: str, tokens: int, count: int) -> EvalStream:
    read = beginning(text, tokens, context.encode)
    rng = Random(f"mplus events {context.seed} {book} {tokens}")
    places = list(range(SHOWN, len(read.events)))
    rng.shuffle(places)
    end = sum(len(unit.ids) for unit in read.units)
    # each question draws for itself, so that more of them leave the others as they were
    asked = [
        _question(context, book, tokens, read.events, place, Random(f"mplus event {context.seed} {book} {tokens} {place}"))
        for place in places[:count]
    ]
    return context.script([read.units], [(end, ScheduledQuestion(one, end - one.end)) for one in asked])


def _question(context: TaskContext, book: str, tokens: int, events: Sequence[Event], place: int, rng: Random) -> Question:
    """The event at a place, told from others of the read text by what came before it."""
    shown, right = events[place - SHOWN : place], events[place]
    others = [*events[: place - SHOWN], *events[place + 1 :]]
    options = [right.text, *(one.text for one in rng.sample(others, OPTIONS - 1))]
    rng.shuffle(options)
    listed = "\n".join(f"{number}. {one.text}" for number, one in enumerate(shown, 1))
    more = {"query": "\n".join([listed, *options]), "answer_span": right.span, "row": short(tokens), "options": tuple(options)}
    span = (shown[0].span[0], right.span[1])
    name = f"{book} {short(tokens)} {place}"
    return context.question(name, listed, (right.text,), span, cluster=f"{book} {place}", **more)
