"""Relations that subjects of some kinds have to values of a kind, with their wordings. Knows neither names nor facts."""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

from mplus.corpus.word_lists import Split, Table, Words


class Wordings(Table):
    """Templates of sentences: those of both splits and those of one alone."""

    both: Words
    held_out: Words
    train: Words

    def of(self, split: Split) -> Words:
        """The templates a split may use."""
        return self.both + (self.train if split == "train" else self.held_out)


class Relation(Table):
    """One thing that can be said of subjects of some kinds, and asked. Templates are those of ``phrasing.fill``."""

    name: str
    subjects: Words  # kinds of subjects it is about
    value: str  # kind of its value
    statements: Wordings
    questions: Wordings


class _RelationTable(Table):
    relations: tuple[Relation, ...]


RELATIONS: Final = _RelationTable.read("relations").relations


def relations_about(kinds: Words) -> dict[str, tuple[Relation, ...]]:
    """For each kind of subject its relations."""
    return {kind: tuple(relation for relation in RELATIONS if kind in relation.subjects) for kind in kinds}


def is_reserved_wording(text: str, subject: str, value: str) -> bool:
    """Tell whether a sentence about `subject` with `value` in it is worded as the held-out split alone words it."""
    bare = text.replace(subject, "{s}")
    return _normal(bare.replace(value, "{v}") if value else bare) in _RESERVED


def _normal(wording: str) -> str:
    """The wording without articles, capitals and marks."""
    plain = re.sub(r"\{[aA]\}|\b(?:a|an)\b(?= \{)", "", wording).replace("{S}", "{s}").lower()
    return " ".join(re.sub(r"[^\w{}' ]", " ", plain).split())


_RESERVED: Final = frozenset(
    _normal(wording) for relation in RELATIONS for wording in chain(relation.statements.held_out, relation.questions.held_out)
)
