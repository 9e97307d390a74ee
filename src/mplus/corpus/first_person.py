"""Owners seen from the writer: my sister, my cousin Ada's cat, our second boat. Knows no values."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from mplus.corpus.names import NameGenerator
from mplus.corpus.phrasing import PHRASES, capital, fill, possessive
from mplus.corpus.word_lists import Words

MYSELF: Final = "me"
"""The writer as an owner; what is theirs is "my"."""
_NAMED: Final = frozenset(("person", "petname"))


@dataclass(frozen=True)
class Owner:
    """Somebody or something of the writer's, its kind of subject, and the "my" or "our" that a question may replace by "your"."""

    name: str
    kind: str
    pronoun: str = "my"


def owner(rng: Random, names: NameGenerator) -> Owner:
    """An owner such as "my cousin Ada"."""
    phrases, chance = PHRASES.first_person, rng.random()
    if chance < 0.1:
        return Owner(MYSELF, "person")
    relative = rng.choice(phrases.relatives)
    person = f"{relative} {names.first()}" if rng.random() < 0.4 else relative
    if chance < 0.7:
        return Owner(f"my {person}", "person")
    thing, kind = rng.choice(phrases.things)
    if chance < 0.9:
        return Owner(f"{possessive(f'my {person}')} {rng.choice(phrases.adjectives)}{thing}", kind)
    return Owner(f"our {rng.choice(phrases.adjectives)}{thing} {names.first()}", kind, "our")


def sentences_about(rng: Random, owner: Owner, nouns: tuple[str, str], value: str, kind: str, phrase: str) -> tuple[str, str]:
    """Statement and question about an owner.

    Args:
        nouns: the attribute's word in the statement and in the question.
        kind: of the value.
        phrase: the value as it stands in a sentence.
    """
    phrases, general = PHRASES.first_person, PHRASES.attribute
    statements = phrases.named_statements if kind in _NAMED and rng.random() < 0.6 else phrases.statements
    statement = fill(rng.choice(_fitting(statements, owner)), owner.name, value, noun=nouns[0], phrase=phrase)
    special = general.questions_by_kind.get(kind)
    questions = special if special and rng.random() < 0.5 else general.questions
    asked = owner.name.replace(owner.pronoun, "your", 1) if rng.random() < 0.1 else owner.name
    return capital(statement), fill(rng.choice(_fitting(questions, owner)), asked, noun=nouns[1])


def _fitting(templates: Words, owner: Owner) -> Words:
    """Templates that fit the owner: "me" fits none that names the subject."""
    if owner.name != MYSELF:
        return templates
    return tuple(template for template in templates if "{s}" not in template and "{S}" not in template)
