"""What happens next in a book: five events of the read text in their order, and six to choose the next one from.

No model has a part in it: an event is a sentence of the book in which a frequent character does something. Knows tokens and files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from mplus.corpus.text import read_text
from mplus.errors import InputError
from mplus.evaluation.adapters.haystack import LongLengths
from mplus.evaluation.distances import short
from mplus.evaluation.material import Material, Settings, Stream
from mplus.evaluation.script import Due, Encode, Question, Script, Span, Unit, units_of

DEFAULT_QUESTIONS: Final = 60
"""Of a row, over all books."""

SHOWN: Final = 5
OPTIONS: Final = 6
WORDS: Final = (8, 40)
"""Shortest and longest sentence that is an event."""

_NAMES: Final = 20  # characters of a book at most
_MENTIONS: Final = 15
_DEEDS: Final = 4  # how often a name stands right before a verb in the past tense: places and titles seldom do
_INSIDE: Final = 0.5  # share of the mentions that do not begin a sentence

_PAST: Final = (
    "was were had did said went came took saw stood sat ran began gave made found felt heard knew told thought looked left brought "
    "got held kept fell rose met led put let threw drew wrote spoke broke bent caught crept cut drank drove ate flew fought forgot "
    "grew hid hurt laid lay lit lost paid read rode rang sang sank sent set shook shot shut slept slid sprang stole struck swore "
    "swung taught tore understood woke wept won wore bore became bowed smiled turned"
).split()
_PAST_TENSE: Final = re.compile(rf"\b(?:[a-z]{{2,}}ed|{'|'.join(_PAST)})\b")
_DOES: Final = re.compile(rf"\b([A-Z][a-z]{{2,}}) (?:[a-z]{{2,}}ed|{'|'.join(_PAST)})\b")
_CAPITALISED: Final = re.compile(r"\b[A-Z][a-z]{2,}\b")
_INSIDE_SENTENCE: Final = re.compile(r"[a-z,;] ([A-Z][a-z]{2,})\b")
_SPOKEN: Final = re.compile(r"[\"“”‘]|(?<!\w)'|^\s*--", re.M)
_NO_NAMES: Final = frozenset(
    "The This That There They Then When God Sir Lord Lady Mrs Miss Count Prince Princess Captain Doctor".split()
)


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


def streams(settings: EventsSettings, material: Material) -> list[Stream]:
    """One stream per book and length; questions are spread evenly over the books that are long enough."""
    books = _books(material)
    count = DEFAULT_QUESTIONS if material.limit is None else material.limit
    made = []
    for tokens in settings.tokens:
        readable = [(file, text) for file, text in books if _reaches(text, tokens, material.encode)]
        if not readable:
            raise InputError(
                f"no book of {len(books)} has {short(tokens)} tokens; give longer ones with --data, or name fewer tokens"
            )
        for number, (file, text) in enumerate(readable):
            share = count // len(readable) + (number < count % len(readable))
            if share:
                make = partial(_script, material, file.stem, text, tokens, share)
                made.append(Stream(name=f"{file.stem} {short(tokens)}", seed=material.seed, script=make))
    return made


def characters(text: str) -> list[str]:
    """Names of a book's characters, the most frequent first: capitalised within sentences too, and often right before a verb."""
    mentions, inside = Counter(_CAPITALISED.findall(text)), Counter(_INSIDE_SENTENCE.findall(text))
    deeds = Counter(_DOES.findall(text))
    lower = Counter(re.findall(r"\b[a-z]{3,}\b", text))
    return [
        name
        for name, times in mentions.most_common()
        if times >= _MENTIONS
        and name not in _NO_NAMES
        and deeds[name] >= _DEEDS
        and inside[name] >= _INSIDE * times
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
        and any(re.search(rf"\b{name}\b", sentence) for name in names)
        and _PAST_TENSE.search(sentence) is not None
    )


def events_of(text: str, names: Sequence[str], tokens: int, encode: Encode) -> tuple[list[Unit], list[Event]]:
    """The beginning of a book in whole sentences, at most so many tokens, and the events in it, no sentence twice.

    Paragraphs in which somebody speaks are read, but have no events.
    """
    units: list[Unit] = []
    found: dict[str, Event] = {}
    position = 0
    for paragraph in re.split(r"\n[ \t]*\n", text):
        spoken = _SPOKEN.search(paragraph) is not None
        for sentence, unit in units_of(paragraph, encode, starts_paragraph=bool(units)):
            span = (position, position + len(unit.ids))
            if span[1] > tokens:
                return units, list(found.values())
            units.append(unit)
            position = span[1]
            plain = " ".join(sentence.split())
            if not spoken and is_event(plain, names):
                found.setdefault(plain, Event(plain, span))
    return units, list(found.values())


def _books(material: Material) -> list[tuple[Path, str]]:
    """Texts that were given as data, else as haystack."""
    if material.data:
        files = [file for file in material.files() if file.suffix.lower() == ".txt"]
    else:
        files = [file for path in material.haystack for file in (sorted(path.glob("*.txt")) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"task '{material.task.task}' asks about books; give .txt files, or a directory of them, with --data")
    twice = [name for name, times in Counter(file.stem for file in files).items() if times > 1]
    if twice:
        raise InputError(f"two books are named '{twice[0]}'; rename one, results are kept by name")
    return [(file, read_text(file)) for file in files]


def _reaches(text: str, tokens: int, encode: Encode) -> bool:
    """Whether a text has so many tokens; only as much of it is counted as that needs."""
    counted = 0
    for paragraph in re.split(r"\n[ \t]*\n", text):
        counted += len(encode("\n\n" + paragraph.strip())) if paragraph.strip() else 0
        if counted >= tokens:
            return True
    return False


def _script(material: Material, book: str, text: str, tokens: int, count: int) -> Script:
    units, events = events_of(text, characters(text), tokens, material.encode)
    if len(events) < SHOWN + OPTIONS:
        raise InputError(
            f"book '{book}' tells {len(events)} events in its first {short(tokens)} tokens, expected {SHOWN + OPTIONS} or more; "
            "name more tokens, or leave the book out"
        )
    rng = Random(f"mplus events {material.seed} {book} {tokens}")
    places = list(range(SHOWN, len(events)))
    rng.shuffle(places)
    end = sum(len(unit.ids) for unit in units)
    asked = [_question(material, book, tokens, events, place, rng) for place in places[:count]]
    return material.script([units], [(end, Due(one, end - one.end)) for one in asked])


def _question(material: Material, book: str, tokens: int, events: Sequence[Event], place: int, rng: Random) -> Question:
    """The event at a place, told from others of the read text by what came before it."""
    shown, right = events[place - SHOWN : place], events[place]
    others = [*events[: place - SHOWN], *events[place + 1 :]]
    options = [right.text, *(one.text for one in rng.sample(others, OPTIONS - 1))]
    rng.shuffle(options)
    listed = "\n".join(f"{number}. {one.text}" for number, one in enumerate(shown, 1))
    return Question(
        id=f"{book} {short(tokens)} {place}",
        cluster=f"{book} {place}",
        text=material.task.message(listed, tuple(options)),
        answers=(right.text,),
        span=(shown[0].span[0], right.span[1]),
        answer_span=right.span,
        row=short(tokens),
        options=tuple(options),
    )
