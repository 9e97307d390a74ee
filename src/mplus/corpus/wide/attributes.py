"""What somebody or something may have: nouns, with other words for the same, by owner and kind of value. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mplus.corpus.wide.attributes_people import OF_PEOPLE
from mplus.corpus.wide.attributes_things import OF_THINGS


@dataclass(frozen=True)
class Attribute:
    """Something an owner has. `nouns`: words for it, all the same thing."""

    nouns: tuple[str, ...]
    value: str  # kind


def _attributes(text: str) -> tuple[Attribute, ...]:
    found = []
    for line in (" ".join(line.split()) for line in text.strip().split("\n\n")):
        kind, nouns = line.split(": ", 1)
        found += [Attribute(tuple(noun.strip().split("|")), kind) for noun in nouns.split(";")]
    return tuple(found)


ATTRIBUTES: Final[Mapping[str, tuple[Attribute, ...]]] = {
    "person": _attributes(OF_PEOPLE),
    **{kind: _attributes(text) for kind, text in OF_THINGS.items()},
}
