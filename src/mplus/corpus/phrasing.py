"""Templates of sentences and how they are filled and varied. Knows no names and no values.

Placeholders: {s} subject, {o} subject with 's, {n} noun, {v} value, {a} its article, {p} value with its article if it can be
counted; their capitals ({S}, {O}, {N}, {A}, {P}) start a sentence.
"""

from __future__ import annotations

from random import Random
from typing import Final

from mplus.corpus.word_lists import Table, Words


class AttributePhrases(Table):
    """Templates that say which attribute a subject has, and ask for it; some fit one kind of value only."""

    statements: Words
    statements_by_kind: dict[str, Words]
    questions: Words
    questions_by_kind: dict[str, Words]


class EventPhrases(Table):
    """Verbs and circumstances with the templates that join them."""

    verbs: tuple[tuple[str, str, str, str, str, str], ...]
    circumstances: Words
    statements: Words
    passive_statements: Words
    questions: Words


class FirstPersonPhrases(Table):
    """Relatives and things of a writer, and templates of what is said about them."""

    relatives: Words
    things: tuple[tuple[str, str], ...]  # with their kind of subject
    adjectives: Words
    statements: Words
    named_statements: Words


class VariationPhrases(Table):
    """Words before and after statements and questions."""

    before_statement: Words
    after_statement: Words
    before_question: Words
    after_question: Words
    lower_case_starts: frozenset[str]  # first words that need no capital within a sentence


class _PhraseTable(Table):
    attribute: AttributePhrases
    event: EventPhrases
    first_person: FirstPersonPhrases
    variation: VariationPhrases


PHRASES: Final = _PhraseTable.read("phrases")

_VOWELS: Final = tuple("aeiouAEIOU")
_SPOKEN_AS_CONSONANT: Final = ("uku", "eu", "uni")  # "a ukulele", "a eucalyptus"
_SPOKEN_AS_VOWEL: Final = ("hourglass",)


def fill(template: str, subject: str, value: str = "", *, noun: str = "", phrase: str | None = None, **words: str) -> str:
    """A template with its placeholders replaced.

    Args:
        phrase: the value as it stands in a sentence, where that is not the bare value.
        words: further placeholders by name; in capitals they start a sentence.
    """
    shown = value if phrase is None else phrase
    words |= {"s": subject, "o": possessive(subject), "n": noun, "a": article(value), "p": shown}
    return template.format(v=value, **words, **{name.upper(): capital(text) for name, text in words.items()})


def with_article(value: str) -> str:
    """A value that can be counted, with its article."""
    return f"{article(value)} {value}"


def article(value: str) -> str:
    """The indefinite article of a value, by its sound."""
    vowel = value.startswith(_VOWELS) and not value.startswith(_SPOKEN_AS_CONSONANT)
    return "an" if vowel or value.startswith(_SPOKEN_AS_VOWEL) else "a"


def possessive(name: str) -> str:
    """A name with 's; "my" for "me"."""
    if name == "me":
        return "my"
    return name + ("'" if name.endswith("s") else "'s")


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def varied_statement(rng: Random, statement: str, subject: str, value: str, *, share: float) -> str:
    """A statement, in a share of cases with some words before or after it."""
    chance = rng.random()
    if chance >= share or ":" in statement or '"' in statement or (subject.startswith(("my ", "our ")) and "," in statement):
        return statement
    words = PHRASES.variation
    if chance >= share / 2:
        return statement[:-1] + rng.choice(words.after_statement) + "."
    keep = (statement.startswith((subject, "I ", "I'")) and not subject.startswith("the ")) or statement.startswith(value)
    if not keep and statement.split(" ", 1)[0] in words.lower_case_starts:
        statement = statement[0].lower() + statement[1:]
    return rng.choice(words.before_statement) + statement


def varied_question(rng: Random, question: str, *, share: float) -> str:
    """A question as people type it: in a share of cases with other words around it, in small letters or without its mark."""
    if rng.random() >= share:
        return question
    words = PHRASES.variation
    match rng.randrange(8):
        case 0 | 1:
            return question.removesuffix("?").removesuffix(".")
        case 2:
            return question[0].lower() + question[1:]
        case 3:
            return question[0].lower() + question[1:].removesuffix("?")
        case 4:
            return rng.choice(words.before_question) + question
        case 5:
            return question + rng.choice(words.after_question)
        case 6:
            return f"Q: {question}\nA:"
        case _:
            return question.lower() if rng.random() < 0.3 else rng.choice(words.before_question) + question
