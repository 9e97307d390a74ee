"""Questions over several facts that stand in different sources, beside questions for one of them. Knows tokens, no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from pydantic import Field, field_validator, model_validator

from mplus.evaluation.schedule.stream import EvalStream, Question, ScheduledQuestion
from mplus.evaluation.tasks import linked
from mplus.evaluation.tasks.context import Settings, StreamSource, TaskContext
from mplus.evaluation.tasks.haystack import Haystack
from mplus.evaluation.tasks.linked import Link
from mplus.evaluation.tasks.planted import PlantedText, planted, sources, texts

DEFAULT_QUESTIONS: Final = 128
_MOST_HOPS: Final = 4
_TOKENS_OF_A_STATEMENT: Final = 16
_FILLED: Final = 0.25
_MOST_CHAINS: Final = 100  # of a text: more towns than there are would be needed
_KINDS: Final = ("person", "company", "town")


class ChainsSettings(Settings):
    """Settings of the task file.

    Attributes:
        hops: facts of a chain; a row for each.
        tokens: of a text.
        sources: of a text, as many as the longest chain has facts at least.
    """

    hops: tuple[int, ...] = (2, 3, 4)
    tokens: int = Field(default=16_000, ge=1000)
    sources: int = Field(default=16, ge=2, le=1000)

    @field_validator("hops")
    @classmethod
    def _in_order(cls, hops: tuple[int, ...]) -> tuple[int, ...]:
        if not hops or not all(2 <= one <= _MOST_HOPS for one in hops):
            raise ValueError(f"expected how many facts a chain has, each from 2 to {_MOST_HOPS}")
        return tuple(sorted(set(hops)))

    @model_validator(mode="after")
    def _apart(self) -> ChainsSettings:
        if self.sources < max(self.hops):
            raise ValueError(
                f"sources is {self.sources}, expected {max(self.hops)} or more, for no two facts of a chain share one"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Entities, each linked to the next, and what says so."""

    key: str
    entities: tuple[str, ...]
    links: tuple[Link, ...]
    statements: tuple[str, ...]


def streams(settings: ChainsSettings, context: TaskContext) -> list[StreamSource]:
    """Texts until every row has its questions."""
    room = int(_FILLED * settings.tokens / (_TOKENS_OF_A_STATEMENT * sum(settings.hops)))
    room = max(1, min(room, _MOST_CHAINS // len(settings.hops)))
    return texts(context, DEFAULT_QUESTIONS, room, partial(_script, settings, Haystack(context)))


def _script(settings: ChainsSettings, haystack: Haystack, name: str, count: int) -> EvalStream:
    context, rng = haystack.context, Random(f"mplus chains {haystack.context.seed} {name}")
    chains, parts = _chains(rng, settings.hops, count), sources(settings.sources, "document")
    for chain in chains:
        for number, part in enumerate(rng.sample(parts, len(chain.links))):
            part.statements.append((f"{chain.key} {number}", rng.random(), chain.statements[number]))
    text = planted(haystack, rng, parts, settings.tokens)
    asked = [question for chain in chains for question in _questions(context, name, chain, text)]
    singles = [one for one in asked if one.row == "1 hop"]
    kept = set(rng.sample([one.id for one in singles], count))  # as many as of each other row
    due = [(text.tokens, ScheduledQuestion(one, 0)) for one in asked if one.row != "1 hop" or one.id in kept]
    return context.script([text.units], due, text.sources)


def _chains(rng: Random, hops: tuple[int, ...], count: int) -> list[Chain]:
    """So many chains of each length, no name in two of them."""
    plans = [linked.random_links(rng, "person", hop) for hop in hops for _ in range(count)]
    used = {kind: sum(link.to == kind for links in plans for link in links) for kind in _KINDS}
    used["person"] += len(plans)
    free = {kind: linked.entities(rng, kind, count) for kind, count in used.items()}
    made = []
    for number, links in enumerate(plans):
        through = [free["person"].pop(), *(free[link.to].pop() for link in links)]
        said = tuple(
            rng.choice(link.statements).format(s=subject, v=value)
            for link, subject, value in zip(links, through, through[1:], strict=False)
        )
        made.append(Chain(key=str(number), entities=tuple(through), links=links, statements=said))
    return made


def _questions(context: TaskContext, name: str, chain: Chain, text: PlantedText) -> list[Question]:
    """The whole chain, and its last fact alone."""
    hops = len(chain.links)
    span = text.spans[f"{chain.key} {hops - 1}"]
    made = []
    for row, first in ((f"{hops} hops", 0), ("1 hop", hops - 1)):
        asks = linked.question_over(chain.entities[first], chain.links[first:])
        more = {"row": row, "cluster": f"{name} {chain.key}", "passage": " ".join(chain.statements[first:])}
        made.append(context.question(f"{name} {chain.key} {row}", asks, (chain.entities[-1],), span, **more))
    return made
