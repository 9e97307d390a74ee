"""People, companies and towns that are linked with each other, and questions over several links, for generated tasks. Knows no tokens.

A question over links is a noun phrase within a noun phrase: "Who is the mayor of the town where the employer of Ana Lee has its seat?".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.names import NAMES
from mplus.errors import InputError
from mplus.evaluation.tasks import people


@dataclass(frozen=True)
class Link:
    """A relation between two entities.

    Attributes:
        of, to: kinds of both.
        statements: with {s} and {v}.
        phrase: names the second by the first, {s}.
    """

    name: str
    of: str
    to: str
    statements: tuple[str, ...]
    phrase: str


LINKS: Final = (
    Link("employer", "person", "company", ("{s} works for {v}.", "The employer of {s} is {v}."), "the employer of {s}"),
    Link("birthplace", "person", "town", ("{s} was born in {v}.", "The birthplace of {s} is {v}."), "the birthplace of {s}"),
    Link("spouse", "person", "person", ("{s} is married to {v}.", "The spouse of {s} is {v}."), "the spouse of {s}"),
    Link("director", "company", "person", ("{s} is directed by {v}.", "The director of {s} is {v}."), "the director of {s}"),
    Link(
        "seat", "company", "town", ("{s} has its seat in {v}.", "The seat of {s} is in {v}."), "the town where {s} has its seat"
    ),
    Link("mayor", "town", "person", ("{v} is the mayor of {s}.", "The mayor of {s} is {v}."), "the mayor of {s}"),
)
"""All relations; the second statement of each is the plainer one."""

_ASKED: Final = {"person": "Who is {}?", "company": "What is {}?", "town": "What is {}?"}
_NAMES: Final = NAMES.held_out

Slot = tuple[str, str]
"""An entity and the name of one of its links."""


def of_kind(kind: str) -> tuple[Link, ...]:
    """The links that entities of a kind have."""
    return tuple(link for link in LINKS if link.of == kind)


def entities(rng: Random, kind: str, count: int) -> list[str]:
    """Different names of a kind.

    Raises:
        InputError: there are not so many.
    """
    if kind == "person":
        return people.names(rng, count)
    if kind == "company":
        made = [f"{one} {trade}" for one in people.LAST for trade in _NAMES.trades]
    else:
        made = [f"{one}{end}" for one in _NAMES.words for end in NAMES.village_ends if end]
    if count > len(made):
        raise InputError(f"a text needs {count} names of a {kind}, there are {len(made)}; make the text shorter")
    return rng.sample(made, count)


def question_over(start: str, links: tuple[Link, ...]) -> str:
    """The question for what the links lead to."""
    phrase = start
    for link in links:
        phrase = link.phrase.format(s=phrase)
    return _ASKED[links[-1].to].format(phrase)


def end_of(start: str, links: tuple[Link, ...], values: Mapping[Slot, str]) -> list[str]:
    """The entities that the links lead to, one after the other."""
    found = []
    for link in links:
        start = values[start, link.name]
        found.append(start)
    return found


def random_links(rng: Random, kind: str, hops: int) -> tuple[Link, ...]:
    """So many links one behind the other, none twice."""
    while True:
        chosen, at = list[Link](), kind
        while len(chosen) < hops and (free := [link for link in of_kind(at) if link not in chosen]):
            chosen.append(rng.choice(free))
            at = chosen[-1].to
        if len(chosen) == hops:
            return tuple(chosen)
