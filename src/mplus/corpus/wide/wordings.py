"""All wordings of a named relation that may be trained on. Knows no names and no values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from mplus.corpus.relation import Relation
from mplus.corpus.wide.wordings_people import MORE_ABOUT_PEOPLE
from mplus.corpus.wide.wordings_things import MORE_ABOUT_THINGS

Wordings = tuple[tuple[str, ...], tuple[str, ...]]


def _read(notation: str) -> dict[str, Wordings]:
    blocks = [block.splitlines() for block in notation.strip().split("\n\n")]
    return {name: (_of(lines, "+ "), _of(lines, "? ")) for name, *lines in blocks}


def _of(lines: list[str], sign: str) -> tuple[str, ...]:
    return tuple(line.removeprefix(sign) for line in lines if line.startswith(sign))


MORE: Final[Mapping[str, Wordings]] = {**_read(MORE_ABOUT_PEOPLE), **_read(MORE_ABOUT_THINGS)}


@cache
def train_wordings(relation: Relation) -> Wordings:
    """Statements and questions of a relation: those that ``corpus`` gives to training and those of this package."""
    statements, questions = relation.wordings("train")
    more_statements, more_questions = MORE[relation.name]
    return statements + more_statements, questions + more_questions
