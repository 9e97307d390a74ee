"""Facts that change over a long text of several sources, asked for their latest and their first value. Knows tokens, no model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from pydantic import Field, field_validator

from mplus.corpus.phrasing import article
from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.tasks import people
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack
from mplus.evaluation.tasks.planted import PlantedText, Source, planted, sources, texts

DEFAULT_QUESTIONS: Final = 128
_MOST_CHANGES: Final = 64
_TOKENS_OF_A_STATEMENT: Final = 22
_FILLED: Final = 0.35  # share of a text that statements are planned for
_UNCHANGED: Final = "never changed"


@dataclass(frozen=True)
class _Slot:
    """A thing that changes: its kind of value, how it is said, changed and asked for."""

    kind: str
    said: tuple[str, ...]
    changed: tuple[str, ...]
    latest: tuple[str, ...]
    first: tuple[str, ...]


def _slots() -> tuple[_Slot, ...]:
    lists = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
    return tuple(_Slot(kind, *(tuple(one.split("|")) for one in wordings)) for kind, *wordings in lists.values())


SLOTS: Final = _slots()


class UpdatesSettings(Settings):
    """Settings of the task file.

    Attributes:
        changes: how often a fact is changed; a row for each.
        tokens: of a text.
        sources: parts of a text, each with a name and a time of its own.
    """

    changes: tuple[int, ...] = (2, 4, 8, 16)
    tokens: int = Field(default=160_000, ge=1000)
    sources: int = Field(default=8, ge=1, le=1000)

    @field_validator("changes")
    @classmethod
    def _in_order(cls, changes: tuple[int, ...]) -> tuple[int, ...]:
        if not changes or not all(1 <= one <= _MOST_CHANGES for one in changes):
            raise ValueError(f"expected how often facts change, each from 1 to {_MOST_CHANGES}")
        return tuple(sorted(set(changes)))


@dataclass(frozen=True, kw_only=True)
class ChangingFact:
    """A person's slot with all its values, the oldest first."""

    key: str
    subject: str
    slot: _Slot
    values: tuple[str, ...]


def streams(settings: UpdatesSettings, context: TaskContext) -> list[StreamSource]:
    """Texts until every row has its questions."""
    statements = sum(count + 1 for count in (*settings.changes, 0))
    room = max(1, int(_FILLED * settings.tokens / (_TOKENS_OF_A_STATEMENT * statements)))
    return texts(context, DEFAULT_QUESTIONS, room, partial(_script, settings, Haystack(context)))


def _script(settings: UpdatesSettings, haystack: Haystack, name: str, count: int) -> EvalStream:
    context, rng = haystack.context, Random(f"mplus updates {haystack.context.seed} {name}")
    facts = _facts(rng, settings, count)
    parts = sources(settings.sources)
    passages: dict[str, list[str]] = {}
    for fact in facts:
        passages[fact.key] = _tell(rng, fact, parts)
    text = planted(haystack, rng, parts, settings.tokens)
    due = []
    for fact in facts:
        for question in _questions(context, rng, name, fact, text, passages[fact.key]):
            due.append((text.tokens, ScheduledQuestion(question, 0)))
    return context.script([text.units], due, text.sources)


def _facts(rng: Random, settings: UpdatesSettings, count: int) -> list[ChangingFact]:
    """So many facts of each number of changes, and as many that never change; each of a person of its own."""
    kinds = [changes for changes in (*settings.changes, 0) for _ in range(count)]
    made = []
    for number, (changes, subject) in enumerate(zip(kinds, people.names(rng, len(kinds)), strict=True)):
        slot = SLOTS[number % len(SLOTS)]
        values = people.values(rng, slot.kind, changes + 1)
        made.append(ChangingFact(key=str(number), subject=subject, slot=slot, values=tuple(values)))
    return made


def _tell(rng: Random, fact: ChangingFact, parts: list[Source]) -> list[str]:
    """Put a fact's statements into the sources, at random places in the order of its values."""
    said, old = list[str](), ""
    for number, (place, value) in enumerate(zip(sorted(rng.random() for _ in fact.values), fact.values, strict=True)):
        part = parts[int(place * len(parts))]
        words = {"s": fact.subject, "v": value, "a": article(value), "old": old, "old_a": article(old), "date": part.date}
        text = rng.choice(fact.slot.changed if number else fact.slot.said).format(**words)
        part.statements.append((f"{fact.key} {number}", place * len(parts) % 1, text))
        said.append(text)
        old = value
    return said


def _questions(
    context: TaskContext, rng: Random, name: str, fact: ChangingFact, text: PlantedText, passages: list[str]
) -> list[Question]:
    changes = len(fact.values) - 1
    asked = [("latest", changes, fact.slot.latest)]
    if changes:
        asked.append(("first", 0, fact.slot.first))
    made = []
    for what, number, wordings in asked:
        span = text.spans[f"{fact.key} {number}"]
        row = f"{what} {changes}" if changes else _UNCHANGED
        more = {"row": row, "cluster": f"{name} {fact.key}", "passage": " ".join(passages)}
        asks = rng.choice(wordings).format(s=fact.subject)
        made.append(context.question(f"{name} {fact.key} {what}", asks, (fact.values[number],), span, **more))
    return made
