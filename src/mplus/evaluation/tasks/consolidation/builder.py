"""A long numbered list of facts, later ones of which contradict earlier ones (MemoryAgentBench, generated here). Knows tokens, no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from pydantic import field_validator

from mplus.errors import InputError
from mplus.evaluation.schedule.distances import short
from mplus.evaluation.schedule.stream import EvalStream, ScheduledQuestion, Span, Unit
from mplus.evaluation.tasks import linked
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import LongLengths
from mplus.evaluation.tasks.linked import Link, Slot

DEFAULT_QUESTIONS: Final = 128
_MOST_HOPS: Final = 4
_VERSIONS: Final = (1, 1, 2, 3)  # how often a slot is said
_PER_COMPANY: Final = 4  # people; towns are as many as companies
_LINES_PER_PERSON: Final = 6.6  # 3.75 slots of 1.75 versions
_TOKENS_OF_A_LINE: Final = 17
_TRIES: Final = 100_000
_FULL: Final = 0.9  # of a length


class ConsolidationSettings(Settings):
    """Settings of the task file.

    Attributes:
        lengths: tokens of a list; two rows for each.
        hops: of the chains, in turn.
    """

    lengths: LongLengths = (6000, 32_000, 64_000, 262_000)
    hops: tuple[int, ...] = (2, 3)

    @field_validator("hops")
    @classmethod
    def _chains(cls, hops: tuple[int, ...]) -> tuple[int, ...]:
        if not hops or not all(2 <= one <= _MOST_HOPS for one in hops):
            raise ValueError(f"expected how many facts a chain has, each from 2 to {_MOST_HOPS}")
        return hops


@dataclass(frozen=True, kw_only=True)
class FactList:
    """The list: its lines, which of them each slot has (in order), and the newest value of each."""

    lines: list[str]
    places: dict[Slot, list[int]]
    newest: dict[Slot, str]
    starts: list[str]


def streams(settings: ConsolidationSettings, context: TaskContext) -> list[StreamSource]:
    """One list per length."""
    wanted = DEFAULT_QUESTIONS if context.limit is None else context.limit
    return [
        StreamSource(name=short(length), seed=context.seed, script=partial(_script, settings, context, length, wanted))
        for length in settings.lengths
    ]


def fact_list(rng: Random, people: int) -> FactList:
    """A list about so many people and a quarter as many companies and towns."""
    counts = {"person": people, "company": max(2, people // _PER_COMPANY), "town": max(2, people // _PER_COMPANY)}
    world = {kind: linked.entities(rng, kind, count) for kind, count in counts.items()}
    links = {link.name: link for link in linked.LINKS}
    said = [
        (entity, link.name)
        for kind, names in world.items()
        for entity in names
        for link in linked.of_kind(kind)
        for _ in range(rng.choice(_VERSIONS))
    ]
    rng.shuffle(said)
    lines, places, newest = list[str](), dict[Slot, list[int]](), dict[Slot, str]()
    for number, slot in enumerate(said):
        entity, link = slot[0], links[slot[1]]
        value = rng.choice([one for one in rng.sample(world[link.to], 2) if one != newest.get(slot)])
        newest[slot] = value
        places.setdefault(slot, []).append(number)
        lines.append(f"{number}. {link.statements[-1].format(s=entity, v=value)}")
    return FactList(lines=lines, places=places, newest=newest, starts=world["person"])


def _script(settings: ConsolidationSettings, context: TaskContext, length: int, wanted: int) -> EvalStream:
    facts, units = _fitting(context, length)
    spans, position = list[Span](), 0
    for unit in units:
        spans.append((position, position + len(unit.ids)))
        position += len(unit.ids)
    rng = Random(f"mplus consolidation questions {context.seed} {length}")
    due = []
    for row, hops in (("single", (1,)), ("multi", settings.hops)):
        for number, (start, links) in enumerate(_chains(rng, facts, hops, wanted)):
            slots = list(zip([start, *linked.end_of(start, links, facts.newest)], [link.name for link in links], strict=False))
            asks = linked.question_over(start, links)
            needed = sorted(place for slot in slots for place in facts.places[slot])
            span = spans[facts.places[slots[-1]][-1]]
            question = context.question(
                f"{row} {short(length)} {number}", asks, (facts.newest[slots[-1]],), span,
                row=f"{row} {short(length)}", passage="\n".join(facts.lines[place] for place in needed),
            )  # fmt: skip
            due.append((position, ScheduledQuestion(question, 0)))
    return context.script([units], due)


def _fitting(context: TaskContext, length: int) -> tuple[FactList, list[Unit]]:
    """The list of the most people whose lines fit."""
    people, is_first = max(2, int(length / (_LINES_PER_PERSON * _TOKENS_OF_A_LINE))), True
    while True:
        facts = fact_list(Random(f"mplus consolidation {context.seed} {length}"), people)
        units = [Unit(ids=context.encode(("\n" if number else "") + line)) for number, line in enumerate(facts.lines)]
        tokens = sum(len(unit.ids) for unit in units)
        if is_first and tokens < _FULL * length:  # this tokenizer makes fewer tokens of a line
            people, is_first = int(people * length / tokens), False
            continue
        if tokens <= length:
            return facts, units
        if people <= 2:
            raise InputError(f"a list of facts does not fit into {length} tokens; name a greater length")
        people = max(2, min(people - 1, int(people * length / tokens)))


def _chains(rng: Random, facts: FactList, hops: tuple[int, ...], count: int) -> list[tuple[str, tuple[Link, ...]]]:
    """Different chains with a contradicted slot; a single one is contradicted itself. Fewer where the list has no more."""
    found: dict[str, tuple[str, tuple[Link, ...]]] = {}
    kinds = _kinds(facts.newest)
    for _ in range(_TRIES):
        if len(found) == count:
            break
        hop = hops[len(found) % len(hops)]
        start = rng.choice(facts.starts if hop > 1 else list(kinds))
        links = linked.random_links(rng, kinds[start], hop)
        through = [start, *linked.end_of(start, links, facts.newest)]
        slots = [(entity, link.name) for entity, link in zip(through, links, strict=False)]
        if len(set(through)) == len(through) and any(len(facts.places[slot]) > 1 for slot in slots):
            found.setdefault(linked.question_over(start, links), (start, links))
    return list(found.values())


def _kinds(newest: Mapping[Slot, str]) -> dict[str, str]:
    """The kind of every entity, by the links it has."""
    of = {link.name: link.of for link in linked.LINKS}
    return {entity: of[name] for entity, name in newest}
